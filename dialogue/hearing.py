"""Values in one caller turn: what the understanding marked in it, and what its words say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from dialogue.slots import InvalidValue, SlotSpec, SlotType, SlotValue, parse_slot
from nlu.meaning import Slot

__all__ = ["Hearing"]


class Hearing:
    """One turn's words (or keys) and marked entities. Each value serves one slot a turn: `use` and `keep` note it.

    A marked value is told from others by its entity. What is only read from the words is not, so they serve no second
    slot of a kind ("on Friday" is the arrival or the departure, where nothing is marked).
    """

    def __init__(self, words: str, entities: tuple[Slot, ...], today: date) -> None:
        self.words = words
        self._entities = entities
        self._today = today
        self._used: set[str] = set()
        self._served: list[SlotSpec] = []
        self._kept: list[SlotSpec] = []

    def forget(self) -> None:
        """What was said here must not fill a slot elsewhere."""
        self.words, self._entities = "", ()

    def use(self, spec: SlotSpec) -> None:
        """The turn's values of this entity have filled a slot."""
        self._used.add(spec.entity)
        self._served.append(spec)

    def keep(self, spec: SlotSpec) -> None:
        """The value marked for this slot is known for its own, and has not filled it here: it may be read again, and
        the words are no slot's of another entity unless that is asked for."""
        self._kept.append(spec)

    def read(
        self, spec: SlotSpec, known: Mapping[str, SlotValue], *, asked: bool, named: bool = False
    ) -> SlotValue | InvalidValue | None:
        """A value for the slot in this turn: the entities marked for it, the last first, then all the words.

        The words alone must be plain about it: unless the slot was `asked` for, a value in them that the
        validators refuse is none ("speaking to number one" refuses no account number), and the words of a choice are
        none unless the node names the slot (`named`): they may be any.
        """
        if spec.entity in self._used or not self.words:
            return None
        marked = self.marked(spec, known)
        if isinstance(marked, SlotValue) or self._have_served(spec, asked):
            return marked
        value = self._parse(spec, self.words, known, asked=asked)
        plain = spec.type is not SlotType.YES_NO and (named or spec.type is not SlotType.CHOICE)
        if isinstance(value, SlotValue) and (asked or plain):
            return value
        return marked or (value if asked and isinstance(value, InvalidValue) else None)

    def marked(self, spec: SlotSpec, known: Mapping[str, SlotValue]) -> SlotValue | InvalidValue | None:
        """The last value that the understanding marked for the slot; where all are refused, why."""
        refused: InvalidValue | None = None
        if spec.entity in self._used:
            return None
        for entity in reversed(self._entities):
            if entity.name == spec.entity:
                value = self._parse(spec, entity.text, known, asked=True)
                if isinstance(value, SlotValue):
                    return value
                refused = refused or value
        return refused

    def _have_served(self, spec: SlotSpec, asked: bool) -> bool:
        """Whether the words have filled another slot of the kind."""
        kept = () if asked else (other for other in self._kept if other.entity != spec.entity)
        return any(_are_of_a_kind(spec, other) for other in (*self._served, *kept))

    def _parse(
        self, spec: SlotSpec, text: str, known: Mapping[str, SlotValue], *, asked: bool
    ) -> SlotValue | InvalidValue | None:
        return parse_slot(spec, text, today=self._today, known=known, asked=asked)


def _are_of_a_kind(one: SlotSpec, other: SlotSpec) -> bool:
    """Whether both may read the same of the words: choices between other names, or digits in other numbers, do not."""
    lengths = one.min_length <= other.max_length and other.min_length <= one.max_length
    return one.type is other.type and one.choices == other.choices and lengths
