"""Charts of a bench as one SVG file that stands alone: what docs/images holds, and a page shows with <img>."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

__all__ = ["sheet", "write_plot"]

_WIDTH: Final = 360
_HEIGHT: Final = 198
_GAP: Final = 24
_TITLE: Final = 22
_MARGIN: Final = 16
_STYLE: Final = """
svg { --back: #fff; --text: #1c2430; --muted: #5c6675; --grid: #e3e7ec; --line: #2563a8; --line-2: #b45f06;
  --limit: #b3261e; font: 11px system-ui, sans-serif }
@media (prefers-color-scheme: dark) { svg { --back: #14181d; --text: #e6e9ed; --muted: #9aa4b1; --grid: #2b323b;
  --line: #74b0f0; --line-2: #f0a85a; --limit: #ff8a80 } }
text { fill: var(--muted) } .title { font-weight: 600; font-size: 13px; fill: var(--text) }
.head { font-weight: 600; font-size: 15px; fill: var(--text) }
"""


def sheet(heading: str, charts: Sequence[tuple[str, str]], *, columns: int = 2) -> str:
    """One SVG with all charts in a grid.

    Args:
        charts: titles, and what `gateway.replay.charts` drew.
    """
    rows = -(-len(charts) // columns)
    width = 2 * _MARGIN + columns * _WIDTH + (columns - 1) * _GAP
    height = 2 * _MARGIN + _TITLE + rows * (_TITLE + _HEIGHT + _GAP)
    body = [f'<rect width="{width}" height="{height}" fill="var(--back)"/>']
    body.append(f'<text class="head" x="{_MARGIN}" y="{_MARGIN + 12}">{escape(heading)}</text>')
    for index, (title, drawn) in enumerate(charts):
        x = _MARGIN + index % columns * (_WIDTH + _GAP)
        y = _MARGIN + _TITLE + index // columns * (_TITLE + _HEIGHT + _GAP) + _GAP // 2
        body.append(f'<text class="title" x="{x}" y="{y + 12}">{escape(title)}</text>')
        placed = f'<svg x="{x}" y="{y + _TITLE}" width="{_WIDTH}" height="{_HEIGHT}" '
        body.append(placed + drawn.removeprefix("<svg "))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<style>{_STYLE}</style>{''.join(body)}</svg>\n"
    )


def write_plot(path: Path, svg: str) -> None:
    """Into a file whose folder is made if need be.

    Raises:
        OSError: it cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg, encoding="utf-8")
