"""Do the budgets hold with N callers at once? The same as `voicegate replay`, as a script.

python -m bench.replay PATH... --calls N [--ramp S] [--duration S] [--url WS] [--html FILE] [--json] [--gate]
"""

from __future__ import annotations

import typer

from gateway.cli.replay import replay


def main() -> None:
    """The command itself; see `--help`."""
    typer.run(replay)


if __name__ == "__main__":
    main()
