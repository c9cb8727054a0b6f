"""Which GPU an inference process gets: each one of its own, as far as there are enough.

Nothing is asked of CUDA: who starts the processes loads no models. A process is told by CUDA_VISIBLE_DEVICES, which
counts what the process that starts it may see (CUDA C++ Programming Guide, "CUDA Environment Variables").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["VISIBLE", "seen_gpus", "share_of"]

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


def seen_gpus(environ: Mapping[str, str], devices: Path = Path("/dev")) -> tuple[str, ...]:
    """Names of this machine's GPUs, as CUDA_VISIBLE_DEVICES has them: those that it names already, else a number for
    each device file of NVIDIA's driver. A container's files may keep the host's numbers, and CUDA counts from 0."""
    if (named := environ.get(VISIBLE)) is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip())
    found = [path for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return tuple(map(str, range(len(found))))


def share_of(index: int, gpus: Sequence[str]) -> dict[str, str]:
    """What the `index`-th inference process gets: one GPU, in turn. Where there is no choice, nothing."""
    return {VISIBLE: gpus[index % len(gpus)]} if len(gpus) > 1 else {}
