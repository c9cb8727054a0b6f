"""What a new reading of the settings and bots means for a gateway that runs: which of its processes must be exchanged,
and what cannot change before the next start. Pure but for the reading of bots.

Every process has the settings that it was started with, for as long as it lives: a call keeps what it began with, and
what is new comes with new processes. So nothing here needs to know how a setting is used, only by which kind of
process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from dialogue.bots import Bot, load_bot
from dialogue.faq_yaml import FAQ_FILE
from gateway.settings import Settings

__all__ = ["BotPrint", "Kind", "Plan", "fingerprints", "plan_reload"]


class Kind(StrEnum):
    """Kinds of processes."""

    INFERENCE = "inference"
    CONTROL = "control"
    WORKER = "worker"


_ALL: Final = frozenset(Kind)
_CALLS: Final = frozenset((Kind.WORKER, Kind.CONTROL))
_READ_BY: Final[Mapping[str, frozenset[Kind]]] = {
    "bot": _ALL,
    "bots": _ALL,
    "log_level": _ALL,
    "log_format": _ALL,
    "asr": _ALL,
    "nlu": frozenset((Kind.INFERENCE,)),
    "inference": _ALL,
    "playout": frozenset((Kind.WORKER,)),
    "speech": frozenset((Kind.WORKER,)),
    "turns": frozenset((Kind.WORKER,)),
    "twilio": frozenset((Kind.WORKER,)),
    "detector": frozenset((Kind.WORKER,)),
    "control": frozenset((Kind.CONTROL,)),
    "api": frozenset((Kind.CONTROL,)),
    "workers": frozenset(),  # of `serve` alone, as is what follows
    "supervision": frozenset(),
}
"""By the first part of a setting's name; all others are of workers and the control plane. What `nlu` and `asr` change
reaches those too, because they come to the new models by a new socket."""

_FIXED: Final[Mapping[str, str]] = {
    "host": "the sockets are open on that address",
    "port": "its socket is open, and calls come to it",
    "control_port": "its socket is open",
    "redis.url": "calls in progress have their state there",
    "redis.state_dir": "the embedded Redis runs there, with the state of calls in progress",
    "workers": "there are none, so the media port is not its own",
}
"""`workers` only where there are none."""


@dataclass(frozen=True, slots=True)
class BotPrint:
    """A bot's files as they were, for comparison: by path, size and time of change."""

    files: int
    """Of its folder."""
    models: int
    """Of what the inference worker reads: artefacts, FAQ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a reload will do."""

    settings: Settings
    """As they will be: what cannot change is as it was."""
    changed: tuple[str, ...]
    """Settings that will change, by dotted name, and bots."""
    kept: tuple[str, ...]
    """Settings that cannot, each with the reason."""
    exchanged: frozenset[Kind]
    """Kinds of processes that must be new."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.changed and not self.exchanged


def plan_reload(
    now: Settings,
    new: Settings,
    bots_now: Mapping[str, BotPrint],
    bots_new: Mapping[str, BotPrint],
    *,
    everything: bool = False,
) -> Plan:
    """Compare what runs with what was read.

    Args:
        everything: exchange all processes, changed or not: the program itself may be another.
    """
    before, after = dict(_leaves(now)), dict(_leaves(new))
    different = [name for name in after if after[name] != before[name]]  # values alone: secrets are not told
    fixed = [name for name in different if name in _FIXED and not (name == "workers" and now.workers)]
    changed = [name for name in different if name not in fixed]
    kinds: set[Kind] = set()
    for name in changed:
        kinds |= _READ_BY.get(name.partition(".")[0], _CALLS)
    bots = [name for name in bots_new if name in bots_now and bots_new[name] != bots_now[name]]
    if bots:
        kinds |= _CALLS
    if everything or any(bots_new[name].models != bots_now[name].models for name in bots):
        kinds |= _ALL
    if Kind.INFERENCE in kinds:
        kinds |= _CALLS
    return Plan(
        settings=_with_old(new, now, fixed),
        changed=(*changed, *(f"bot {name}" for name in bots)),
        kept=tuple(f"{name}: stays as it was until the gateway is started anew: {_FIXED[name]}" for name in fixed),
        exchanged=frozenset(kinds),
    )


def fingerprints(names: tuple[str, ...]) -> dict[str, BotPrint]:
    """The bots as they are on disk now. Reads every flow; blocking.

    Raises:
        BotError: one cannot be used.
    """
    return {name: _fingerprint(load_bot(name)) for name in names}


def _fingerprint(bot: Bot) -> BotPrint:
    larger = bot.second_opinion.nlu_path if bot.second_opinion is not None else None
    artefacts = [path for path in (bot.nlu_path, larger) if path is not None]
    models = [*artefacts, bot.directory / FAQ_FILE]
    own = [bot.directory, *(path for path in artefacts if not path.is_relative_to(bot.directory))]
    return BotPrint(files=_print_of(own), models=hash((bot.language, _print_of(models))))


def _print_of(roots: list[Path]) -> int:
    return hash(tuple(stamp for root in roots for stamp in _stamps(root)))


def _stamps(root: Path) -> Iterator[tuple[str, int, int]]:
    """Path, size and time of change of each file below; links are followed, so that one set elsewhere is a change."""
    if root.is_file():
        found = [root]
    else:
        walked = os.walk(root, followlinks=True)
        found = sorted(Path(folder, name) for folder, _, names in walked for name in names)
    for path in found:
        if path.is_file():  # not a link that leads nowhere
            told = path.stat()
            yield str(path), told.st_size, told.st_mtime_ns


def _leaves(settings: Settings) -> Iterator[tuple[str, object]]:
    """Every setting by its dotted name."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            for leaf in type(value).model_fields:
                yield f"{name}.{leaf}", getattr(value, leaf)
        else:
            yield name, value


def _with_old(new: Settings, now: Settings, names: list[str]) -> Settings:
    """`new`, with these as they are `now`."""
    for name in names:
        area, _, leaf = name.partition(".")
        if leaf:
            kept = getattr(new, area).model_copy(update={leaf: getattr(getattr(now, area), leaf)})
        else:
            kept = getattr(now, area)
        new = new.model_copy(update={area: kept})
    return new
