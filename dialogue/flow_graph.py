"""A flow as a drawing: SVG, with each node's words and what leads from one to the next."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from dialogue.flow import ANY_INTENT, Flow, Node, Prompt, Transition
from dialogue.layered_layout import Edge, Layout, Place, Size, lay_out

__all__ = ["ANYWHERE", "flow_edges", "flow_svg"]

ANYWHERE = "(anywhere)"
"""The box from which the transitions of every node lead."""

_WIDTH = 232.0
_LINE = 15.0
_MARGIN = 24.0
_CHARS = 34
_WIDE_CHARS = 17
_LINES = 4

_STYLE = """
text { font-family: system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; font-size: 12px; fill: #1f2933; }
.name { font-weight: 600; font-size: 13px; }
.note { fill: #52606d; font-style: italic; }
.box { fill: #ffffff; stroke: #9aa5b1; stroke-width: 1.2; }
.start { stroke: #2f6fbb; stroke-width: 2.4; }
.end { fill: #f3f0fa; stroke: #7a5fb5; }
.act { fill: #fff6e5; stroke: #c98a1b; }
.anywhere { fill: #eef2f6; stroke-dasharray: 5 3; }
.edge { fill: none; stroke: #7b8794; stroke-width: 1.2; }
.from-anywhere { stroke: #cbd2d9; }
.label { font-size: 11px; fill: #334e68; paint-order: stroke; stroke: #fbfcfd; stroke-width: 4px; }
"""


@dataclass(frozen=True, slots=True)
class _Box:
    name: str
    kind: str
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    title: str

    @property
    def size(self) -> Size:
        return Size(_WIDTH, 30 + _LINE * (len(self.lines) + len(self.notes)))


def flow_edges(flow: Flow) -> dict[Edge, list[str]]:
    """What leads from node to node, and by what: intents, keys, "then", "failed", silence, misunderstanding."""
    edges: dict[Edge, list[str]] = {}

    def add(tail: str, head: str | None, label: str) -> None:
        if head is not None:
            labels = edges.setdefault(Edge(tail, head), [])
            if label not in labels:
                labels.append(label)

    for name, node in flow.nodes.items():
        for branch in node.branches:
            add(name, branch.to, "if " + ", ".join(sorted({condition.slot for condition in branch.when})))
        add(name, node.then, "otherwise" if node.branches else "then" if node.listens or node.webhook else "")
        add(name, node.failed, "failed")
        for label, transition in _labelled(node.on, node.keys):
            add(name, transition.to, label)
        if node.listens and node.no_input != _common(flow, "no_input"):
            add(name, node.no_input.give_up, "silence")
        if node.listens and node.no_match != _common(flow, "no_match"):
            add(name, node.no_match.give_up, "not understood")
    for label, transition in _labelled(flow.anywhere, flow.keys):
        add(ANYWHERE, transition.to, label)
    for key, label in (("no_input", "silence"), ("no_match", "not understood")):
        add(ANYWHERE, _give_up(flow, key), label)
    return edges


def _common(flow: Flow, key: str) -> object:
    """The patience that most listening nodes share: the flow's own."""
    found = [getattr(node, key) for node in flow.nodes.values() if node.listens]
    return max(found, key=found.count, default=None)


def _give_up(flow: Flow, key: str) -> str | None:
    common = _common(flow, key)
    return getattr(common, "give_up", None)


def _labelled(*tables: Mapping[str, tuple[Transition, ...]]) -> Iterator[tuple[str, Transition]]:
    for table in tables:
        for name, options in table.items():
            label = "anything else" if name == ANY_INTENT else name
            for transition in options:
                yield label, transition


def flow_svg(flow: Flow, title: str) -> str:
    """The whole flow as one SVG document; boxes and edges have tooltips with all that does not fit."""
    edges = flow_edges(flow)
    boxes = {name: _box(flow, node) for name, node in flow.nodes.items()}
    if any(edge.tail == ANYWHERE for edge in edges):
        boxes[ANYWHERE] = _Box(ANYWHERE, "box anywhere", ("What every node understands",), (), "From every node")
    layout = lay_out({name: box.size for name, box in boxes.items()}, list(edges), start=flow.start)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN + 28
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0.5 8 4 0 7.5z" fill="#7b8794"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fbfcfd"/>',
        f'<text class="name" x="{_MARGIN}" y="26">{escape(title)}</text>',
        f'<g transform="translate({_MARGIN} {_MARGIN + 28})">',
        *(_edge(edge, labels, boxes, layout) for edge, labels in edges.items() if edge.tail != edge.head),
        *(_drawn(box, layout.places[name]) for name, box in boxes.items()),
        *(_label(edge, labels, boxes, layout) for edge, labels in edges.items() if edge.tail != edge.head),
        "</g></svg>",
    ]
    return "\n".join(parts) + "\n"


def _box(flow: Flow, node: Node) -> _Box:
    kind = "box end" if node.ends else "box act" if node.webhook else "box"
    if node.name == flow.start:
        kind += " start"
    words = " ".join(prompt.text for prompt in (*node.say, *node.ask))
    chars = _CHARS if words.isascii() else _WIDE_CHARS
    lines = textwrap.wrap(words, chars)
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], lines[_LINES - 1][: chars - 2] + " …"]
    notes = [
        textwrap.shorten(f"{what}: {value}", _CHARS, placeholder=" …")
        for what, value in (
            ("asks for", node.collect),
            ("confirms", ", ".join(node.confirm)),
            ("outcome", node.outcome),
            ("webhook", node.webhook),
            ("hangs up", node.hang_up),
            ("transfers to", node.transfer),
        )
        if value
    ]
    return _Box(node.name, kind, tuple(lines), tuple(notes), _told(node))


def _told(node: Node) -> str:
    """A tooltip: every word of the node."""
    parts: list[tuple[str, tuple[Prompt, ...]]] = [
        ("", node.say),
        ("asks: ", node.ask),
        ("refused: ", node.invalid),
        ("silence: ", node.no_input.prompts),
        ("not understood: ", node.no_match.prompts),
    ]
    return "\n".join([node.name, *(f"{what}{prompt.text}" for what, prompts in parts for prompt in prompts)])


def _drawn(box: _Box, at: Place) -> str:
    size = box.size
    x, y = at.x - size.width / 2, at.y - size.height / 2
    texts = [f'<text class="name" x="{x + 10:.1f}" y="{y + 20:.1f}">{escape(box.name)}</text>']
    styled = [*((line, "") for line in box.lines), *((note, ' class="note"') for note in box.notes)]
    for i, (line, style) in enumerate(styled):
        texts.append(f'<text{style} x="{x + 10:.1f}" y="{y + 36 + i * _LINE:.1f}">{escape(line)}</text>')
    rect = (
        f'<rect class="{box.kind}" x="{x:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}" rx="7"/>'
    )
    return f"<g><title>{escape(box.title)}</title>{rect}{''.join(texts)}</g>"


def _points(edge: Edge, boxes: Mapping[str, _Box], layout: Layout) -> list[Place]:
    """Where the edge leaves its box, passes, and arrives."""
    tail, head = layout.places[edge.tail], layout.places[edge.head]
    down = head.y > tail.y
    leave = boxes[edge.tail].size.height / 2 * (1 if down else -1)
    arrive = boxes[edge.head].size.height / 2 * (-1 if down else 1)
    side = 0.0 if down else _WIDTH / 4  # so that a way back does not lie over the way there
    return [Place(tail.x + side, tail.y + leave), *layout.routes[edge], Place(head.x + side, head.y + arrive)]


def _edge(edge: Edge, labels: list[str], boxes: Mapping[str, _Box], layout: Layout) -> str:
    points = _points(edge, boxes, layout)
    path = f"M{points[0].x:.1f} {points[0].y:.1f}"
    for a, b in zip(points, points[1:], strict=False):
        middle = (a.y + b.y) / 2
        path += f" C{a.x:.1f} {middle:.1f} {b.x:.1f} {middle:.1f} {b.x:.1f} {b.y:.1f}"
    kind = "edge from-anywhere" if edge.tail == ANYWHERE else "edge"
    told = f"{edge.tail} → {edge.head}: {', '.join(label for label in labels if label) or 'then'}"
    return f'<g><title>{escape(told)}</title><path class="{kind}" d="{path}" marker-end="url(#head)"/></g>'


def _label(edge: Edge, labels: list[str], boxes: Mapping[str, _Box], layout: Layout) -> str:
    """By the end of the edge's first stretch, where edges of one box have parted."""
    shown = [label for label in labels if label]
    if not shown:
        return ""
    a, b = _points(edge, boxes, layout)[:2]
    text = ", ".join(shown[:3]) + (f" +{len(shown) - 3}" if len(shown) > 3 else "")
    at = Place(a.x + (b.x - a.x) * 0.62, a.y + (b.y - a.y) * 0.62)
    return f'<text class="label" text-anchor="middle" x="{at.x:.1f}" y="{at.y:.1f}">{escape(text)}</text>'
