"""A training run that may be taken up again: its whole state after an epoch, in one file beside the model to be.

Only a run with the same settings on the same data goes on: anything else would give a model that no single run gives.
With them, a run that was interrupted gives the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nlu.meaning import NluError

__all__ = ["Checkpoint", "CheckpointError", "CheckpointFile", "fingerprint"]

_NAME = "training.pt"


class CheckpointError(NluError):
    """A checkpoint that is broken or of another run; with the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """State of a run after `epoch` epochs. `state` is what the trainer makes of itself: tensors and plain values."""

    epoch: int
    fingerprint: str
    state: Mapping[str, object]


class CheckpointFile:
    """The checkpoint in a model's folder, if any."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def exists(self) -> bool:
        """Whether a run was interrupted here."""
        return self._path.is_file()

    def write(self, checkpoint: Checkpoint) -> None:
        """Replace what was there, at once: a run killed while it writes keeps the one before.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        scratch = self._path.with_suffix(".writing")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(
                {
                    "epoch": checkpoint.epoch,
                    "fingerprint": checkpoint.fingerprint,
                    "threads": torch.get_num_threads(),
                    "state": dict(checkpoint.state),
                },
                scratch,
            )
            os.replace(scratch, self._path)
        except (OSError, RuntimeError) as error:  # torch says so where the disk is full
            with suppress(OSError):
                scratch.unlink()
            reason = (error.strerror or error) if isinstance(error, OSError) else "is the disk full?"
            raise CheckpointError(
                f"{self._path.parent}: cannot be written ({reason}); name a folder that can"
            ) from None

    def threads(self) -> int | None:
        """Threads that the run computed with: how many are idle is another number when it is taken up again, and the
        sums of a matrix product are other ones. None where no checkpoint says so."""
        try:
            raw = torch.load(self._path, map_location="cpu", weights_only=True, mmap=True)
            return int(raw["threads"])
        except Exception:  # no file, or a broken one, which `read` tells
            return None

    def read(self, expected: str) -> Checkpoint | None:
        """The checkpoint of the run with this fingerprint; None where there is no checkpoint.

        Raises:
            CheckpointError: it is broken, or of another run.
        """
        if not self.exists():
            return None
        try:
            raw = torch.load(self._path, map_location="cpu", weights_only=True)
            found = Checkpoint(epoch=int(raw["epoch"]), fingerprint=str(raw["fingerprint"]), state=raw["state"])
        except Exception:  # bytes that are no checkpoint lead the unpickler to any error
            raise CheckpointError(f"{self._path}: broken; delete it, or train with --overwrite to start over") from None
        if found.fingerprint != expected:
            raise CheckpointError(
                f"{self._path}: of a run with other settings or other data; go on with those, or train with "
                "--overwrite to start over"
            )
        return found

    def remove(self) -> None:
        """The run has ended well, or is not to be gone on with."""
        if self.exists():
            self._path.unlink()


def fingerprint(parts: Iterable[object]) -> str:
    """Hash over what makes a run the same run: anything with a stable `repr`, tensors not among it."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            raise TypeError("a tensor's repr is abridged: hash its bytes instead")
        digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()
