"""The dialogue's decisions: `step(flow, state, event) -> (state, actions)`. Pure; the same in a replay.

States are the flow's nodes. What an event does at a listening node:

| event           | first that applies                                                              |
| --------------- | ------------------------------------------------------------------------------- |
| `CallStarted`   | variables from metadata and defaults, enter the start node                      |
| `CallResumed`   | ended by the bot: its last action again; else "we were cut off", the question,  |
|                 | or what the node says where it asks nothing                                     |
| `CallerSaid`    | 1. a confirmed slot named anew: replaced, question again                        |
|                 | 2. the intent's transition (node's own, then anywhere) that leads elsewhere     |
|                 | 3. the collected slot read from the entities, else from the words: on to `then` |
|                 | 4. the transition for any intent, `*`                                           |
|                 | 5. refused by a validator: the `invalid` prompt; else no-match; both escalate   |
| `DigitsPressed` | 3 of above for a digits slot, else the key's transition, else 5                 |
| `CallerSilent`  | no-input prompt and question, escalating to the node's `give_up`                |
| `WebhookAnswered` | its slots filled and on to `then`; else to `failed`                           |
| `TimeRanOut`    | the flow's last words for it, and the end                                       |
| `CallEnded`     | noted                                                                           |

Odd cases: a node that collects is passed over where its slot is filled, but a value in this very turn
replaces it ("I will pay Friday" later corrected to "I will pay Monday"). An entity serves one slot a turn.
A prompt whose slot has no value is left out (`flow_check` finds those that can be). After the bot's end
every event but `CallResumed` and `CallEnded` gives no action. A caller who comes back to one node again and again
without filling a slot is let go by the flow's `give_up`. A node that a new version of the flow no
longer has restarts the dialogue, with its slots. While a webhook is asked the caller is not heard: turns are
counted and answered with nothing; a call resumed there asks again, under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from dialogue.conditions import Condition
from dialogue.flow import ANY_INTENT, Flow, Node, Patience, Prompt, Stay, Transition
from dialogue.hearing import Hearing
from dialogue.slots import InvalidValue, SlotSpec, SlotType, SlotValue, parse_slot, say_slot
from dialogue.state import HISTORY_TURNS, DialogueState, Promise, Turn
from dialogue.turns import (
    Action,
    CallEnded,
    CallerSaid,
    CallerSilent,
    CallResumed,
    CallStarted,
    CallWebhook,
    DigitsPressed,
    Event,
    HangUp,
    Listen,
    Say,
    TimeRanOut,
    Transfer,
    WebhookAnswered,
)
from dialogue.variables import MetadataError, read_variables
from nlu.meaning import OUT_OF_SCOPE, Meaning

__all__ = ["TIME_RAN_OUT", "MetadataError", "step"]

TIME_RAN_OUT = "too_long"
"""Disposition of a call that had to be ended for its length, unless it had reached an outcome."""

_NO_MEANING = Meaning("", 0.0)


def step(
    flow: Flow, state: DialogueState, event: Event, *, round_id: int | None = None
) -> tuple[DialogueState, tuple[Action, ...]]:
    """Advance a dialogue by one event.

    Args:
        round_id: the number of this caller turn where the client brings its own; else the next one.
            Events that are no caller turn take none.

    Returns:
        The new state and the actions, to be carried out in order.

    Raises:
        MetadataError: `CallStarted` without a value that a variable needs and takes; the message names it.
    """
    if isinstance(event, CallEnded):
        return replace(state, ended_by=event.by, ended_at=event.at), ()
    if isinstance(event, CallStarted):
        state = replace(state, today=event.today, started_at=event.at, slots=read_variables(flow, event))
        return _Run(flow, state).start()
    if isinstance(event, CallResumed):
        return _Run(flow, replace(state, ended_by=None, ended_at=0.0)).resume()
    if isinstance(event, CallerSilent):
        return (state, ()) if state.ended else _Run(flow, state).hear_nothing()
    if isinstance(event, WebhookAnswered):
        return (state, ()) if state.ended else _Run(flow, state).hear_answer(event)
    if isinstance(event, TimeRanOut):
        return (state, ()) if state.ended else _Run(flow, state).run_out()
    state = replace(state, round_id=state.round_id + 1 if round_id is None else round_id, turns=state.turns + 1)
    if state.ended:
        return state, ()
    if isinstance(event, CallerSaid):
        return _Run(flow, state, event.text, event.meaning).hear_words(event)
    return _Run(flow, state, event.digits).hear_keys(event)


class _Run:
    """One step in the making: the state so far and the actions collected. Lives for one call of `step`."""

    def __init__(self, flow: Flow, state: DialogueState, words: str = "", meaning: Meaning = _NO_MEANING) -> None:
        self._flow = flow
        self._from = state.node
        self._state = state
        self._said = words
        self._meaning = meaning
        self._today = date.fromisoformat(state.today) if state.today else date.min
        self._heard = Hearing(words, meaning.slots, self._today)
        self._actions: list[Action] = []

    # Events

    def start(self) -> tuple[DialogueState, tuple[Action, ...]]:
        self._enter(self._flow.start)
        return self._state, tuple(self._actions)

    def resume(self) -> tuple[DialogueState, tuple[Action, ...]]:
        node = self._flow.nodes.get(self._state.node)
        if node is None:
            self._state = replace(self._state, disposition=None)
            self._enter(self._flow.start)
        elif node.ends:
            self._end(node)
        elif node.webhook is not None:
            self._say(self._flow.resume, node)
            self._call_webhook(node, node.webhook, again=True)
        else:
            self._say(self._flow.resume, node)
            # A caller who comes back must hear something to answer.
            self._say(node.ask or node.say, node, question=True)
            self._listen(node)
        return self._state, tuple(self._actions)

    def hear_nothing(self) -> tuple[DialogueState, tuple[Action, ...]]:
        node = self._node
        if node.webhook is not None:
            return self._state, ()
        failures = self._state.no_input
        self._state = replace(self._state, no_input=failures + 1)
        self._try_again(node, node.no_input, failures, None)
        return self._state, tuple(self._actions)

    def hear_answer(self, event: WebhookAnswered) -> tuple[DialogueState, tuple[Action, ...]]:
        node = self._flow.nodes.get(self._state.node)
        if node is None or node.webhook != event.webhook or event.act != self._state.acts:
            return self._state, ()  # an answer to what is not asked any more
        values = None if event.answer is None else self._answer_values(node.webhook, dict(event.answer))
        if values is None:
            assert node.failed is not None
            self._enter(node.failed)
        else:
            self._state = replace(self._state, slots={**self._state.slots, **values})
            self._enter(self._next(node))
        return self._state, tuple(self._actions)

    def _answer_values(self, webhook: str, answer: Mapping[str, str]) -> dict[str, SlotValue] | None:
        """The slots that the answer fills; None where one is missing or refused."""
        values: dict[str, SlotValue] = {}
        for name, key in self._flow.webhooks[webhook].take.items():
            spec = self._flow.slots[name]
            known = {**self._state.slots, **values}
            value = parse_slot(spec, answer.get(key, ""), today=self._today, known=known, asked=True)
            if not isinstance(value, SlotValue):
                return None
            values[name] = value
        return values

    def run_out(self) -> tuple[DialogueState, tuple[Action, ...]]:
        node, disposition = self._node, self._state.outcome or TIME_RAN_OUT
        self._say(self._flow.time_up, node)
        self._actions.append(HangUp(disposition=disposition))
        return replace(self._state, disposition=disposition), tuple(self._actions)

    def hear_words(self, event: CallerSaid) -> tuple[DialogueState, tuple[Action, ...]]:
        if self._node.webhook is None and not self._turns_spent():
            self._keep_early()
            self._understand(self._node)
            self._leave_circle()
        return self._remember(event.heard, event.supersedes)

    def hear_keys(self, event: DigitsPressed) -> tuple[DialogueState, tuple[Action, ...]]:
        if self._node.webhook is None and not self._turns_spent():
            node = self._node
            spec = self._flow.slots[node.collect] if node.collect else None
            value = self._read(spec, asked=True) if spec and spec.type is SlotType.DIGITS else None
            pressed = self._route(node.keys, self._flow.keys, event.digits)
            if isinstance(value, SlotValue):
                self._enter(node.name)
            elif pressed:
                self._take(node, pressed)
            else:
                self._misunderstand(node, value)
            self._leave_circle()
        return self._remember(event.heard)

    def _turns_spent(self) -> bool:
        """Leave by the flow's way out where the call has had its turns."""
        limit, way_out = self._flow.max_turns, self._flow.give_up
        if limit is None or way_out is None or self._state.turns <= limit:
            return False
        self._enter(way_out)
        return True

    def _leave_circle(self) -> None:
        """Leave by the flow's way out where the call comes to one node again and again and gets nowhere."""
        slots, node = len(self._state.slots), self._state.node
        visits = self._state.visits if slots <= self._state.most_slots else {}
        count = visits.get(node, 0) + 1
        self._state = replace(
            self._state, visits={**visits, node: count}, most_slots=max(slots, self._state.most_slots)
        )
        limit, way_out = self._flow.max_repeats, self._flow.give_up
        if limit is not None and way_out is not None and count > limit and not self._state.ended and node != way_out:
            self._actions.clear()
            self._heard.forget()
            self._enter(way_out)

    @property
    def _intent(self) -> str:
        """The turn's intent; "" where nothing was said, or nothing understood."""
        known = self._meaning.score >= self._flow.min_score and self._meaning.intent != OUT_OF_SCOPE
        return self._meaning.intent if known and self._heard.words else ""

    def _understand(self, node: Node) -> None:
        intent = self._intent
        route = self._route(node.on, self._flow.anywhere, intent)
        if node.confirm and (route is None or intent in node.on) and self._correct(node):
            self._ask(node)
            return
        if route and route.to != node.name:
            self._take(node, route)
            return
        value: SlotValue | InvalidValue | None = None
        if node.collect and self._heard.words:
            value = self._read(self._flow.slots[node.collect], asked=True)
            if isinstance(value, SlotValue):
                self._enter(node.name)
                return
        if anything := self._route(node.on, self._flow.anywhere, ANY_INTENT):
            self._take(node, anything)
        elif route and not node.collect:
            self._take(node, route)
        else:
            self._misunderstand(node, value)

    # Moves

    @property
    def _node(self) -> Node:
        return self._flow.nodes[self._state.node]

    def _route(
        self,
        own: Mapping[str, tuple[Transition, ...]],
        common: Mapping[str, tuple[Transition, ...]],
        key: str,
    ) -> Transition | None:
        options = own.get(key) or common.get(key, ())
        return next((t for t in options if self._fits(t)), None)

    def _fits(self, transition: Transition) -> bool:
        if transition.needs is not None and transition.needs not in self._state.slots:
            return False
        if transition.changes and not self._changed(transition):
            return False
        return self._hold(transition.when)

    def _hold(self, conditions: Sequence[Condition]) -> bool:
        return all(condition.holds(self._flow.slots, self._state.slots, self._today) for condition in conditions)

    def _take(self, node: Node, transition: Transition) -> None:
        for name, value in self._changed(transition).items():
            self._fill(name, value)
        if transition.forget:
            kept = {n: v for n, v in self._state.slots.items() if n not in transition.forget}
            still = tuple(p for p in self._state.promises if not set(dict(p.slots)) & set(transition.forget))
            self._state = replace(self._state, slots=kept, promises=still)
        self._say(transition.say, node)
        if transition.to is not None:
            self._enter(transition.to)
            return
        # A side question is not an understood answer: failures go on counting, silence does not.
        self._state = replace(self._state, no_input=0)
        if transition.stay is Stay.LISTEN:
            self._listen(node)
            return
        if transition.stay is Stay.REPEAT:
            self._say(node.say, node)
        self._ask(node)

    def _enter(self, name: str) -> None:
        """Enter a node and those it passes on to, until one listens or ends. `flow_yaml` refuses circles."""
        while True:
            node = self._flow.nodes[name]
            self._state = replace(
                self._state,
                node=name,
                no_input=0,
                no_match=0,
                outcome=node.outcome or self._state.outcome,
            )
            self._note(node)
            if node.collect:
                refused = self._collect(node)
                if node.collect in self._state.slots:
                    name = self._next(node)
                    continue
                if refused:
                    self._say(node.invalid, node)
                    self._state = replace(self._state, no_match=1)
                    self._ask(node)
                    return
            self._say(node.say, node, question=node.listens and not node.ask)
            if node.ends:
                self._end(node)
                return
            if node.webhook is not None:
                self._call_webhook(node, node.webhook)
                return
            if node.collect or node.then is None:
                self._ask(node)
                return
            name = self._next(node)

    def _next(self, node: Node) -> str:
        """Where a node passes on to: the first branch that holds, else `then`."""
        assert node.then is not None
        return next((branch.to for branch in node.branches if self._hold(branch.when)), node.then)

    def _note(self, node: Node) -> None:
        """What entering a node puts on the call's record."""
        if node.promise:
            promise = Promise(node=node.name, slots=self._values(node.promise))
            earlier = tuple(p for p in self._state.promises if p.node != node.name)  # said again: it replaces
            self._state = replace(self._state, promises=(*earlier, promise))
        if node.callback:
            values = {key: dict(self._values([slot])).get(slot) for key, slot in node.callback.items()}
            agreed = {key: value for key, value in values.items() if value is not None}
            self._state = replace(self._state, callback=agreed)

    def _call_webhook(self, node: Node, webhook: str, *, again: bool = False) -> None:
        if not again:
            self._state = replace(self._state, acts=self._state.acts + 1)
        send = self._values(self._flow.webhooks[webhook].send)
        self._actions.append(CallWebhook(webhook=webhook, node=node.name, act=self._state.acts, send=send))

    def _end(self, node: Node) -> None:
        if node.hang_up is not None:
            disposition = self._state.outcome or node.hang_up
            self._actions.append(HangUp(disposition=disposition))
        else:
            assert node.transfer is not None
            disposition = self._state.outcome or "transfer"
            context = tuple((name, slot.value) for name, slot in self._state.slots.items())
            self._actions.append(Transfer(target=node.transfer, context=context))
        self._state = replace(self._state, disposition=disposition)

    def _misunderstand(self, node: Node, value: SlotValue | InvalidValue | None) -> None:
        failures = self._state.no_match
        self._state = replace(self._state, no_match=failures + 1)
        refused = node.invalid if isinstance(value, InvalidValue) else ()
        self._try_again(node, node.no_match, failures, refused)

    def _try_again(self, node: Node, patience: Patience, failures: int, instead: Sequence[Prompt] | None) -> None:
        """Say the prompt for this many failures (or `instead`) and ask again; give up once they are spent."""
        if failures >= len(patience.prompts) and patience.give_up is not None:
            self._heard.forget()  # what was not understood here must not fill a slot there
            self._enter(patience.give_up)
            return
        prompts = patience.prompts[min(failures, len(patience.prompts) - 1) :][:1] if patience.prompts else ()
        self._say(instead or prompts, node)
        self._ask(node)

    # Slots

    def _collect(self, node: Node) -> bool:
        """Fill the node's slots from this turn. Whether a value for the collected one was refused."""
        refused = False
        for name in (node.collect, *node.optional):
            assert name is not None
            value = self._read(self._flow.slots[name], asked=name == node.collect == self._asked)
            if isinstance(value, SlotValue):
                self._fill(name, value)
            elif value and name == node.collect:
                refused = True
        return refused

    @property
    def _asked(self) -> str | None:
        """The slot that the caller has just been asked for."""
        node = self._flow.nodes.get(self._from)
        return node.collect if node else None

    def _correct(self, node: Node) -> bool:
        """Take new values for the slots that the node confirms. Whether there was one."""
        changed = False
        for name in node.confirm:
            value = self._read(self._flow.slots[name], asked=False)
            before = self._state.slots.get(name)
            if isinstance(value, SlotValue) and (before is None or before.value != value.value):
                self._fill(name, value)
                changed = True
        return changed

    def _read(self, spec: SlotSpec, *, asked: bool) -> SlotValue | InvalidValue | None:
        return self._heard.read(spec, self._state.slots, asked=asked)

    def _keep_early(self) -> None:
        """Slots that the caller fills before they are asked for."""
        node, intent = self._node, self._intent
        awaited = {self._flow.slots[name].entity for name in (node.collect, *node.optional, *node.confirm) if name}
        for name, spec in self._flow.slots.items():
            wanted = intent in spec.early or ANY_INTENT in spec.early
            if wanted and name not in self._state.slots and spec.entity not in awaited:
                value = self._heard.marked(spec, self._state.slots)
                if isinstance(value, SlotValue):
                    self._state = replace(self._state, slots={**self._state.slots, name: value})

    def _changed(self, transition: Transition) -> dict[str, SlotValue]:
        """Other values that the turn names for the filled slots that the transition may change."""
        found: dict[str, SlotValue] = {}
        for name in transition.changes:
            before = self._state.slots.get(name)
            value = self._heard.marked(self._flow.slots[name], self._state.slots)
            if before is not None and isinstance(value, SlotValue) and value.value != before.value:
                found[name] = value
        return found

    def _values(self, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Normalised values of slots, or of what stands in for them; those with none are left out."""
        found = []
        for name in names:
            stand_in = self._flow.slots[name].default_from
            slot = self._state.slots.get(name) or (self._state.slots.get(stand_in) if stand_in else None)
            if slot is not None:
                found.append((name, slot.value))
        return tuple(found)

    def _fill(self, name: str, value: SlotValue) -> None:
        self._heard.use(self._flow.slots[name])
        self._state = replace(self._state, slots={**self._state.slots, name: value})

    # Speech

    def _say(self, prompts: Sequence[Prompt], node: Node, *, question: bool = False) -> None:
        for prompt in prompts:
            values = {name: self._spoken(name) for name in prompt.slots}
            filled = {name: spoken for name, spoken in values.items() if spoken is not None}
            if len(filled) < len(values) or not self._shows(prompt):
                continue
            self._actions.append(
                Say(
                    text=prompt.fill(filled),
                    node=node.name,
                    recording=prompt.recording,
                    interruptible=prompt.interruptible,
                    question=question,
                )
            )

    def _shows(self, prompt: Prompt) -> bool:
        return (prompt.needs is None or prompt.needs in self._state.slots) and self._hold(prompt.when)

    def _spoken(self, name: str) -> str | None:
        spec = self._flow.slots[name]
        slot = self._state.slots.get(name)
        if slot is not None:
            return say_slot(spec, slot.value, today=self._today)
        return self._spoken(spec.default_from) if spec.default_from else None

    def _ask(self, node: Node) -> None:
        self._say(node.ask, node, question=True)
        self._listen(node)

    def _listen(self, node: Node) -> None:
        self._actions.append(
            Listen(node=node.name, no_input_ms=node.no_input_ms, tail_ms=node.tail_ms, expect=node.expect)
        )

    def _remember(self, heard: str | None, supersedes: int | None = None) -> tuple[DialogueState, tuple[Action, ...]]:
        turn = Turn(
            round_id=self._state.round_id,
            node=self._from,
            said=self._said,
            intent=self._meaning.intent,
            score=self._meaning.score,
            reply=" ".join(action.text for action in self._actions if isinstance(action, Say)),
            heard=heard,
            supersedes=supersedes,
        )
        history = (*self._state.history, turn)[-HISTORY_TURNS:]
        return replace(self._state, history=history), tuple(self._actions)
