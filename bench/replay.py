"""Do the budgets hold with N callers at once? The same as `voicegate replay`, as a script.

python -m bench.replay PATH... --calls N [--ramp S] [--duration S] [--url WS] [--html FILE] [--json] [--gate]
python -m bench.replay --overload [--capacity N] [--seconds S] [--plot FILE.svg]       bench/overload.py
"""

from __future__ import annotations

import sys

import typer

from bench import overload
from gateway.cli.replay import replay


def main() -> None:
    """The command itself; see `--help`."""
    if "--overload" in sys.argv:
        sys.argv.remove("--overload")
        overload.main()
    else:
        typer.run(replay)


if __name__ == "__main__":
    main()
