"""Reading examples: JSON Lines of `{"text": str, "intent": str, "slots": [{"name", "start", "end"}]}`.

Real data is dirty, so what can be mended is mended and reported as a `DataWarning` with file and line: empty
lines, empty texts and slots (left out), slots with spaces around them (without these), overlapping slots (the longest
wins), intents with one example, labels that only the dev file has. A malformed line alone stops the reading, for it
may mean anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nlu.meaning import OUT_OF_SCOPE, NluError, Slot

__all__ = [
    "DataError",
    "DataWarning",
    "Dataset",
    "Example",
    "hold_out",
    "read_dataset",
    "unknown_labels",
    "unseen_labels",
]


class DataError(NluError):
    """A data file that cannot be read as examples: file, line, what is wrong, and the mend."""


@dataclass(frozen=True, slots=True)
class DataWarning:
    """Something odd that was mended or left out. `line` 0: the file as a whole."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled line; slots in text order, not overlapping, not empty. `line` counts from 1."""

    text: str
    intent: str
    slots: tuple[Slot, ...]
    line: int = 0

    @property
    def in_scope(self) -> bool:
        """Whether the line belongs to one of the bot's intents."""
        return self.intent != OUT_OF_SCOPE


@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples of one file in file order, and what was odd in it."""

    file: str
    examples: tuple[Example, ...]
    warnings: tuple[DataWarning, ...] = ()


def read_dataset(path: Path) -> Dataset:
    """Read a file of examples.

    Raises:
        DataError: the file cannot be read, holds no example, or has a malformed line.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); name a JSON Lines file of examples"
        ) from None
    if lines[-1] == b"":
        lines.pop()  # what follows the last newline is no line
    reader = _Reader(str(path))
    examples = [example for number, line in enumerate(lines, start=1) if (example := reader.example(number, line))]
    if not examples:
        raise DataError(f'{path}: holds no example; write one line {{"text": ..., "intent": ..., "slots": []}} each')
    return Dataset(str(path), tuple(examples), (*reader.warnings, *_single_examples(str(path), examples)))


def unseen_labels(train: Sequence[Example], other: Dataset) -> list[DataWarning]:
    """`unknown_labels` of a file, where the training lines show all that there is to know."""
    intents = {example.intent for example in train}
    slots = {slot.name for example in train for slot in example.slots}
    return unknown_labels(intents, slots, other, "in the training file")


def unknown_labels(
    intents: Iterable[str], slots: Iterable[str], other: Dataset, where: str = "among those that the model knows"
) -> list[DataWarning]:
    """Warnings for intents and slots of `other` that are none of these; each label once, at its first line.

    Such lines stay in the data: they count as wrong in an evaluation. `where` is what a warning says these are.
    """
    known = {"intent": {OUT_OF_SCOPE, *intents}, "slot": set(slots)}
    warnings: list[DataWarning] = []
    for example in other.examples:
        for kind, name in (("intent", example.intent), *(("slot", slot.name) for slot in example.slots)):
            if name not in known[kind]:
                known[kind].add(name)
                told = f"{kind} {name!r} is not {where}: its lines cannot be predicted right"
                warnings.append(DataWarning(other.file, example.line, told))
    return warnings


def hold_out(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """Split into (training, dev): every 1/share-th example of each intent, in file order, goes to dev.

    An intent with fewer than four examples keeps them all for training; where all do, dev is empty.
    """
    counts = Counter(example.intent for example in examples)
    seen: Counter[str] = Counter()
    train: list[Example] = []
    dev: list[Example] = []
    period = max(2, round(1 / share))
    for example in examples:
        seen[example.intent] += 1
        few = counts[example.intent] < 4
        # An intent smaller than the period gives its last example.
        due = seen[example.intent] % min(period, counts[example.intent]) == 0
        (dev if due and not few else train).append(example)
    if not any(example.in_scope for example in dev):  # lines out of scope alone are nothing to judge by
        return list(examples), []
    return train, dev


def _single_examples(file: str, examples: Sequence[Example]) -> list[DataWarning]:
    counts = Counter(example.intent for example in examples)
    return [
        DataWarning(file, e.line, f"intent {e.intent!r} has this one example only: write some more")
        for e in examples
        if counts[e.intent] == 1
    ]


class _Reader:
    """Parses lines of one file and collects warnings."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.warnings: list[DataWarning] = []

    def example(self, number: int, line: bytes) -> Example | None:
        """Parse one line; None where it is left out with a warning."""
        try:
            content = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise self._malformed(number, f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
        if not content:
            self._warn(number, "empty line, left out")
            return None
        try:
            parsed: object = json.loads(content)
        except RecursionError:
            raise self._malformed(number, "not JSON (nested too deeply); write one JSON object a line") from None
        except ValueError as error:  # JSONDecodeError is one; so is what Python says of a number of 5,000 digits
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number too long"
            raise self._malformed(number, f"not JSON ({reason}); write one JSON object a line") from None
        if not isinstance(parsed, dict):
            raise self._malformed(number, 'not an object; write {"text": ..., "intent": ..., "slots": [...]}')
        text = self._string(number, parsed, "text")
        intent = self._label(number, parsed, "intent")
        if not intent:
            raise self._malformed(number, f'"intent" is empty; name one, or {OUT_OF_SCOPE!r} for out of scope')
        if not text.strip():
            self._warn(number, "empty text, left out")
            return None
        return Example(text, intent, self._slots(number, parsed, text), number)

    def _slots(self, number: int, parsed: dict[str, object], text: str) -> tuple[Slot, ...]:
        entries = parsed.get("slots", [])
        if not isinstance(entries, list):
            raise self._malformed(number, '"slots" is not a list; write [] where there are none')
        slots: list[Slot] = []
        for entry in entries:
            if not isinstance(entry, dict):
                raise self._malformed(number, 'a slot is not an object; write {"name", "start", "end"}')
            name = self._label(number, entry, "name")
            start, end = entry.get("start"), entry.get("end")
            if type(start) is not int or type(end) is not int or not 0 <= start <= end <= len(text):
                raise self._malformed(
                    number,
                    f"slot {name!r} has start {start!r} and end {end!r}; they are character offsets in the text, "
                    f"0 <= start < end <= {len(text)}",
                )
            covered = text[start:end]
            kept = covered.strip()
            if not kept:
                self._warn(number, f"slot {name!r} covers no text, left out")
                continue
            if kept != covered:  # no model finds spaces
                self._warn(number, f"slot {name!r} begins or ends with a space, which is left out of it")
                start += len(covered) - len(covered.lstrip())
            slots.append(Slot(name, kept, start, start + len(kept)))
        return tuple(self._without_overlaps(number, slots))

    def _without_overlaps(self, number: int, slots: Iterable[Slot]) -> list[Slot]:
        """Keep the longest of overlapping slots (the first of equals)."""
        kept: list[Slot] = []
        for slot in sorted(slots, key=lambda s: (s.start - s.end, s.start)):
            rival = next((k for k in kept if slot.start < k.end and k.start < slot.end), None)
            if rival is None:
                kept.append(slot)
            else:
                self._warn(number, f"slot {slot.name!r} overlaps the longer {rival.name!r}, left out")
        return sorted(kept, key=lambda s: s.start)

    def _string(self, number: int, parsed: dict[str, object], key: str) -> str:
        value = parsed.get(key)
        if not isinstance(value, str):
            raise self._malformed(number, f'"{key}" is missing or no string; every line needs it')
        return value

    def _label(self, number: int, parsed: dict[str, object], key: str) -> str:
        """A string that can be written again: JSON can hold half of a surrogate pair, a model's description cannot."""
        value = self._string(number, parsed, key)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self._malformed(number, f'"{key}" holds half a surrogate pair; write whole characters') from None
        return value

    def _warn(self, number: int, text: str) -> None:
        self.warnings.append(DataWarning(self._file, number, text))

    def _malformed(self, number: int, text: str) -> DataError:
        return DataError(f"{self._file}:{number}: {text}")
