"""One step in the making: the state so far, what the turn said, and the actions collected.

`dialogue.step` decides what is done; this is what there is to do: read values and fill slots, test conditions, say
prompts, ask, listen, call the operator's system, end. Every change of state goes through a `StepDraft`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from dialogue.conditions import Condition
from dialogue.flow import ANY_INTENT, Flow, Node, Prompt, Transition
from dialogue.hearing import Hearing
from dialogue.slots import InvalidValue, SlotSpec, SlotValue, say_slot
from dialogue.state import DialogueState, Promise
from dialogue.turns import Action, CallWebhook, HangUp, Listen, Say, Transfer
from nlu.meaning import Slot

__all__ = ["StepDraft"]


class StepDraft:
    """Lives for one call of `dialogue.step.step`. `state` is replaced, `actions` grow, `heard` is used up."""

    def __init__(self, flow: Flow, state: DialogueState, words: str, entities: tuple[Slot, ...]) -> None:
        self.flow = flow
        self.state = state
        self.today = date.fromisoformat(state.today) if state.today else date.min
        self.heard = Hearing(words, entities, self.today)
        self.actions: list[Action] = []

    @property
    def node(self) -> Node:
        """Where the dialogue stands."""
        return self.flow.nodes[self.state.node]

    def hold(self, conditions: Sequence[Condition]) -> bool:
        """Whether all these hold now."""
        return all(condition.holds(self.flow.slots, self.state.slots, self.today) for condition in conditions)

    # Values in the turn

    def read(self, spec: SlotSpec, *, asked: bool, named: bool = False) -> SlotValue | InvalidValue | None:
        """See `Hearing.read`."""
        return self.heard.read(spec, self.state.slots, asked=asked, named=named)

    def collect(self, node: Node, *, asked: str | None) -> bool:
        """Fill the node's slots from this turn; `asked` is the slot that the caller has just been asked for. Whether
        a value for the collected one was refused."""
        refused = False
        assert node.collect is not None
        for name in self._marked_first((node.collect, *node.optional), asked):
            value = self.read(self.flow.slots[name], asked=name == node.collect == asked, named=name in node.optional)
            if isinstance(value, SlotValue):
                self.fill(name, value)
            elif value and name == node.collect:
                refused = True
        return refused

    def correct(self, node: Node) -> bool:
        """Take new values for the slots that the node confirms. Whether there was one."""
        changed = False
        for name in self._marked_first(node.confirm, None):
            spec = self.flow.slots[name]
            value = self.read(spec, asked=False, named=True)
            before = self._standing(name)
            if isinstance(value, SlotValue) and (before is None or before.value != value.value):
                self.fill(name, value)
                changed = True
            elif isinstance(self.heard.marked(spec, self.state.slots), SlotValue):
                self.heard.keep(spec)  # said again: no news for another slot
        if changed:
            self.note(node)  # as on entry, should it promise what it confirms
        return changed

    def _marked_first(self, names: Sequence[str], asked: str | None) -> list[str]:
        """The slots in the order to read them in: what is marked for one is not another's to take from the words, but
        the answer to a question is first of all an answer."""
        slots = self.flow.slots
        return sorted(names, key=lambda n: n != asked and self.heard.marked(slots[n], self.state.slots) is None)

    def keep_early(self, intent: str) -> None:
        """Fill the slots that a turn of this intent fills before they are asked for."""
        node = self.node
        awaited = {self.flow.slots[name].entity for name in (node.collect, *node.optional, *node.confirm) if name}
        for name, spec in self.flow.slots.items():
            wanted = intent in spec.early or ANY_INTENT in spec.early
            if wanted and name not in self.state.slots and spec.entity not in awaited:
                value = self.heard.marked(spec, self.state.slots)
                if isinstance(value, SlotValue):
                    # Not `fill`: the node that asks for it may come in this turn, and reads the same words.
                    self.heard.keep(spec)
                    self.state = replace(self.state, slots={**self.state.slots, name: value})

    def changed(self, transition: Transition) -> dict[str, SlotValue]:
        """Other values that the turn names for the slots with one that the transition may change."""
        found: dict[str, SlotValue] = {}
        for name in transition.changes:
            before = self._standing(name)
            value = self.heard.marked(self.flow.slots[name], self.state.slots)
            if before is not None and isinstance(value, SlotValue) and value.value != before.value:
                found[name] = value
        return found

    # Slots

    def fill(self, name: str, value: SlotValue) -> None:
        """Fill a slot from the turn, whose words serve no other slot of the kind then."""
        self.heard.use(self.flow.slots[name])
        self.state = replace(self.state, slots={**self.state.slots, name: value})

    def forget(self, names: Sequence[str]) -> None:
        """Empty slots, and take back the promises of them."""
        kept = {name: value for name, value in self.state.slots.items() if name not in names}
        still = tuple(p for p in self.state.promises if not set(dict(p.slots)) & set(names))
        self.state = replace(self.state, slots=kept, promises=still)

    def values(self, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Normalised values of slots, or of what stands in for them; those with none are left out."""
        return tuple((name, slot.value) for name in names if (slot := self._standing(name)) is not None)

    def _standing(self, name: str) -> SlotValue | None:
        """A slot's value, or that of what stands in for it: either is what the caller has heard."""
        stand_in = self.flow.slots[name].default_from
        return self.state.slots.get(name) or (self.state.slots.get(stand_in) if stand_in else None)

    # Doings

    def count_no_match(self, in_a_row: int) -> None:
        """The caller was not understood, for the `in_a_row`-th time."""
        self.state = replace(self.state, no_match=in_a_row, total_no_match=self.state.total_no_match + 1)

    def count_no_input(self, in_a_row: int) -> None:
        """The caller said nothing, for the `in_a_row`-th time."""
        self.state = replace(self.state, no_input=in_a_row, total_no_input=self.state.total_no_input + 1)

    def end_failures(self) -> None:
        """The caller was understood: what fails next is the first of a row."""
        self.state = replace(self.state, no_match=0, no_input=0)

    def note(self, node: Node) -> None:
        """Put on the call's record what entering the node means for it."""
        if node.promise:
            promise = Promise(node=node.name, slots=self.values(node.promise))
            earlier = tuple(p for p in self.state.promises if p.node != node.name)  # said again: it replaces
            self.state = replace(self.state, promises=(*earlier, promise))
        if node.callback:
            values = {key: dict(self.values([slot])).get(slot) for key, slot in node.callback.items()}
            agreed = {key: value for key, value in values.items() if value is not None}
            self.state = replace(self.state, callback=agreed)

    def renew(self, values: Mapping[str, SlotValue]) -> None:
        """Put these slots' new values, not filled yet, on the call's record where it has the old ones: another value
        there was agreed on earlier, and the old one not yet."""
        old, new = dict(self.values(list(values))), {name: slot.value for name, slot in values.items()}
        promises = tuple(
            replace(p, slots=tuple((name, new[name] if old.get(name) == value else value) for name, value in p.slots))
            for p in self.state.promises
        )
        of = {(key, name) for node in self.flow.nodes.values() for key, name in node.callback.items() if name in new}
        agreed = self.state.callback  # it does not say of which slots
        renewed = {key: new[name] for key, name in of if key in agreed and agreed[key] == old.get(name)}
        self.state = replace(self.state, promises=promises, callback={**agreed, **renewed})

    def call_webhook(self, node: Node, webhook: str, *, again: bool = False) -> None:
        """Ask the operator's system; `again`: the same request as before, under its number."""
        if not again:
            self.state = replace(self.state, acts=self.state.acts + 1)
        send = self.values(self.flow.webhooks[webhook].send)
        self.actions.append(CallWebhook(webhook=webhook, node=node.name, act=self.state.acts, send=send))

    def end(self, node: Node) -> None:
        """Do what ends the call at this node."""
        if node.hang_up is not None:
            disposition = self.state.outcome or node.hang_up
            self.actions.append(HangUp(disposition=disposition))
        else:
            assert node.transfer is not None
            disposition = self.state.outcome or "transfer"
            context = tuple((name, slot.value) for name, slot in self.state.slots.items())
            self.actions.append(Transfer(target=node.transfer, context=context))
        self.state = replace(self.state, disposition=disposition)

    # Speech

    def say(self, prompts: Sequence[Prompt], node: Node, *, question: bool = False, source: str | None = None) -> None:
        """Say prompts, but those whose slot is empty or whose conditions do not hold; `source` as in `Say`."""
        for prompt in prompts:
            values = {name: self._spoken(name) for name in prompt.slots}
            filled = {name: spoken for name, spoken in values.items() if spoken is not None}
            if len(filled) < len(values) or not self._shows(prompt):
                continue
            self.actions.append(
                Say(
                    text=prompt.fill(filled),
                    node=node.name,
                    recording=prompt.recording,
                    interruptible=prompt.interruptible,
                    question=question,
                    source=source,
                )
            )

    def say_words(self, sentences: Sequence[str], node: Node, source: str) -> None:
        """Say what stands in no file of the bot's."""
        self.actions += [Say(text=sentence, node=node.name, source=source) for sentence in sentences]

    def ask(self, node: Node) -> None:
        """Ask the node's question and listen."""
        self.say(node.ask, node, question=True)
        self.listen(node)

    def listen(self, node: Node) -> None:
        """Wait for the caller as the node does."""
        self.actions.append(
            Listen(node=node.name, no_input_ms=node.no_input_ms, tail_ms=node.tail_ms, expect=node.expect)
        )

    def _shows(self, prompt: Prompt) -> bool:
        return (prompt.needs is None or prompt.needs in self.state.slots) and self.hold(prompt.when)

    def _spoken(self, name: str) -> str | None:
        spec = self.flow.slots[name]
        slot = self.state.slots.get(name)
        if slot is not None:
            return say_slot(spec, slot.value, today=self.today)
        return self._spoken(spec.default_from) if spec.default_from else None
