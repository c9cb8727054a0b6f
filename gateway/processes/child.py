"""How every child process of a gateway begins: its arguments, its settings, its log, and dying with its parent."""

from __future__ import annotations

import argparse
import faulthandler
import signal
from pathlib import Path

from gateway import logs
from gateway.processes.facts import die_with_parent
from gateway.settings import Settings

__all__ = ["begin"]


def begin(process: str, **options: type) -> tuple[argparse.Namespace, Settings]:
    """Read the command line that `gateway.processes.supervisor` wrote, and get ready to serve. Call first thing.

    Args:
        process: this process's name in the log; `{option}` is filled in.
        options: its own options and their types, besides --settings, --parent and --lifeline.
    """
    parser = argparse.ArgumentParser()
    for name, kind in {"settings": Path, "parent": int, "lifeline": int, **options}.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    args = parser.parse_args()
    die_with_parent(args.parent)
    faulthandler.register(signal.SIGQUIT)  # where a process hung, before it is killed: files and lines, no values
    settings = Settings.model_validate_json(args.settings.read_text())
    logs.configure(settings.log_level, settings.log_format, process=process.format(**vars(args)))
    return args, settings
