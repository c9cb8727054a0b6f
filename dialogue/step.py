"""The dialogue's decisions: `step(flow, state, event) -> (state, actions)`. Pure; the same in a replay.

States are the flow's nodes. What an event does at a listening node:

| event           | first that applies                                                              |
| --------------- | ------------------------------------------------------------------------------- |
| `CallStarted`   | variables from metadata and defaults, enter the start node; where an earlier    |
|                 | call of the caller's was cut off, whether to go on is asked first               |
| `CallResumed`   | ended by the bot: its last action again; else "we were cut off", the question,  |
|                 | or what the node says where it asks nothing                                     |
| `CallerSaid`    | 1. a question of the FAQ in its very words: its answer, question again          |
|                 | 2. a confirmed slot named anew: replaced, question again                        |
|                 | 3. the intent's transition (node's own, then anywhere) that leads elsewhere     |
|                 | 4. the collected slot read from the entities, else from the words: on to `then` |
|                 | 5. a question near to one of the FAQ, where there was neither intent nor value  |
|                 | 6. the transition for any intent, `*`                                           |
|                 | 7. what the second track says, where no value was refused; question again       |
|                 | 8. refused by a validator: the `invalid` prompt; else no-match; both escalate   |
| `DigitsPressed` | 4 of above for a digits slot, else the key's transition, else 4 for a number slot, else 8 |
| `CallerSilent`  | no-input prompt and question, escalating to the node's `give_up`                |
| `WebhookAnswered` | its slots filled and on to `then`; else to `failed`                           |
| `TimeRanOut`    | the flow's last words for it, and the end                                       |
| `CallEnded`     | noted                                                                           |

Odd cases: a node that collects is passed over where its slot is filled, but a value in this very turn
replaces it ("I will pay Friday" later corrected to "I will pay Monday"). A value serves one slot a turn.
A node may have the FAQ first (5 before 2) or never. What the FAQ or the second track answers fills no slot and leads
nowhere. A prompt whose slot has no value is left out (`flow_check` finds those that can be). After the bot's end
every event but `CallResumed` and `CallEnded` gives no action. A caller who comes back to one node again and again
without filling a slot is let go by the flow's `give_up`. A node that a new version of the flow no
longer has restarts the dialogue, with its slots. While a webhook is asked the caller is not heard: turns are
counted and answered with nothing; a call resumed there asks again, under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dialogue.assistant import ASSISTANT
from dialogue.coming_back import begin_afresh, reads_as, take_up
from dialogue.draft import StepDraft
from dialogue.flow import ANY_INTENT, FaqPlace, Flow, Node, Patience, Prompt, Stay, Transition
from dialogue.slots import InvalidValue, SlotType, SlotValue, parse_given
from dialogue.state import HISTORY_TURNS, DialogueState, Turn
from dialogue.turns import (
    Action,
    CallEnded,
    CallerSaid,
    CallerSilent,
    CallResumed,
    CallStarted,
    DigitsPressed,
    Event,
    HangUp,
    Say,
    TimeRanOut,
    WebhookAnswered,
)
from dialogue.variables import MetadataError, read_variables
from nlu.meaning import OUT_OF_SCOPE, FaqMatch, Meaning

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
        earlier = None if event.earlier is None else take_up(flow, state, event.earlier)
        return _Run(flow, state).start() if earlier is None else _Run(flow, earlier).offer()
    if isinstance(event, CallResumed):
        again = _Run(flow, replace(state, ended_by=None, ended_at=0.0))
        return again.resume(heard_out=state.ended_by is not None)
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
    """What one event does: moves through the flow, carried out on a draft. Lives for one call of `step`."""

    def __init__(self, flow: Flow, state: DialogueState, words: str = "", meaning: Meaning = _NO_MEANING) -> None:
        self._flow = flow
        self._from = state.node
        self._said = words
        self._meaning = meaning
        self._assistant: tuple[str, ...] = ()
        self._unanswered = False
        self._draft = StepDraft(flow, state, words, meaning.slots)

    # Events

    def start(self) -> tuple[DialogueState, tuple[Action, ...]]:
        self._enter(self._flow.start)
        return self._done()

    def offer(self) -> tuple[DialogueState, tuple[Action, ...]]:
        """Ask a caller who was cut off whether to go on."""
        assert self._flow.come_back is not None
        draft = self._draft
        draft.say(self._flow.come_back.ask, draft.node, question=True)
        draft.listen(replace(draft.node, expect="yes_no"))
        return self._done()

    def _hear_offer(self, go_on: bool | None, *, silent: bool = False) -> None:
        """Go on where the earlier call stood, or from the start. `go_on` None: neither was said, or nothing."""
        come_back, draft = self._flow.come_back, self._draft
        failures = draft.state.no_match + draft.state.no_input
        if go_on is None:
            (draft.count_no_input if silent else draft.count_no_match)(failures + 1)
        draft.heard.forget()
        if come_back is None or (go_on is None and failures):
            draft.state = begin_afresh(self._flow, draft.state)
            self._enter(self._flow.start)
        elif go_on is None:
            self.offer()
        elif not go_on:
            draft.state = begin_afresh(self._flow, draft.state)
            draft.say(come_back.afresh, draft.node)
            self._enter(self._flow.start)
        else:
            draft.state = replace(draft.state, returning=False)
            draft.end_failures()
            draft.say(come_back.go_on, draft.node)
            if come_back.forget:
                draft.forget(come_back.forget)
                self._enter(self._flow.start)
                return
            draft.say(draft.node.ask or draft.node.say, draft.node, question=True)
            draft.listen(draft.node)

    def resume(self, *, heard_out: bool) -> tuple[DialogueState, tuple[Action, ...]]:
        """Go on where the call stood. `heard_out`: somebody ended it; else the line was lost, in the last words too."""
        draft = self._draft
        node = self._flow.nodes.get(draft.state.node)
        if node is None:
            draft.state = replace(draft.state, disposition=None, returning=False)
            self._enter(self._flow.start)
        elif node.ends:
            if not heard_out:
                draft.say(node.say, node)
            draft.end(node)
        elif draft.state.disposition is not None:  # ended where the caller was listened to: for its length
            if not heard_out:
                draft.say(self._flow.time_up, node)
            draft.actions.append(HangUp(disposition=draft.state.disposition))
        elif draft.state.returning:
            return self.offer()
        elif node.webhook is not None:
            draft.say(self._flow.resume, node)
            draft.call_webhook(node, node.webhook, again=True)
        else:
            draft.say(self._flow.resume, node)
            # A caller who comes back must hear something to answer.
            draft.say(node.ask or node.say, node, question=True)
            draft.listen(node)
        return self._done()

    def hear_nothing(self) -> tuple[DialogueState, tuple[Action, ...]]:
        draft = self._draft
        node = draft.node
        if draft.state.returning:
            self._hear_offer(None, silent=True)
        elif node.webhook is None:
            failures = draft.state.no_input
            draft.count_no_input(failures + 1)
            self._try_again(node, node.no_input, failures, None)
        return self._done()

    def hear_answer(self, event: WebhookAnswered) -> tuple[DialogueState, tuple[Action, ...]]:
        draft = self._draft
        node = self._flow.nodes.get(draft.state.node)
        if node is None or node.webhook != event.webhook or event.act != draft.state.acts:
            return self._done()  # an answer to what is not asked any more
        values = None if event.answer is None else self._answer_values(node.webhook, dict(event.answer))
        if values is None:
            assert node.failed is not None
            self._enter(node.failed)
        else:
            draft.state = replace(draft.state, slots={**draft.state.slots, **values})
            self._enter(self._next(node))
        return self._done()

    def _answer_values(self, webhook: str, answer: Mapping[str, str]) -> dict[str, SlotValue] | None:
        """The slots that the answer fills; None where one is missing or refused."""
        values: dict[str, SlotValue] = {}
        for name, key in self._flow.webhooks[webhook].take.items():
            spec = self._flow.slots[name]
            known = {**self._draft.state.slots, **values}
            value = parse_given(spec, answer.get(key, ""), today=self._draft.today, known=known)
            if not isinstance(value, SlotValue):
                return None
            values[name] = value
        return values

    def run_out(self) -> tuple[DialogueState, tuple[Action, ...]]:
        draft = self._draft
        disposition = draft.state.outcome or TIME_RAN_OUT
        draft.say(self._flow.time_up, draft.node)
        draft.actions.append(HangUp(disposition=disposition))
        draft.state = replace(draft.state, disposition=disposition)
        return self._done()

    def hear_words(self, event: CallerSaid) -> tuple[DialogueState, tuple[Action, ...]]:
        draft = self._draft
        self._assistant = event.assistant
        if draft.state.returning:
            self._hear_offer(reads_as(self._flow, draft.heard.words))
        elif draft.node.webhook is None and not self._turns_spent():
            draft.keep_early(self._intent)
            self._understand(draft.node)
            self._leave_circle()
        return self._remember(event.heard, event.supersedes)

    def hear_keys(self, event: DigitsPressed) -> tuple[DialogueState, tuple[Action, ...]]:
        draft = self._draft
        if draft.state.returning:
            self._hear_offer(reads_as(self._flow, draft.heard.words))
        elif draft.node.webhook is None and not self._turns_spent():
            node = draft.node
            spec = self._flow.slots[node.collect] if node.collect else None
            pressed = self._route(node.keys, self._flow.keys, event.digits)
            # A key of the flow's own is no count: 0 calls the agent, where nobody said that 0 guests are none.
            keyed = spec is not None and (spec.type is SlotType.DIGITS or (spec.most_keys > 0 and pressed is None))
            value = draft.read(spec, asked=True) if spec is not None and keyed else None
            if isinstance(value, SlotValue):
                self._enter(node.name)
            elif pressed:
                self._take(node, pressed)
            else:
                self._misunderstand(node, value)
            self._leave_circle()
        return self._remember(event.heard)

    def _done(self) -> tuple[DialogueState, tuple[Action, ...]]:
        return self._draft.state, tuple(self._draft.actions)

    def _remember(self, heard: str | None, supersedes: int | None = None) -> tuple[DialogueState, tuple[Action, ...]]:
        """The step's result, with the caller's turn in the history."""
        draft = self._draft
        source = next((action.source for action in draft.actions if isinstance(action, Say) and action.source), None)
        if beside := "none" if self._unanswered else source and source.split("/")[0]:
            counts = {**draft.state.sources, beside: draft.state.sources.get(beside, 0) + 1}
            draft.state = replace(draft.state, sources=counts)
        turn = Turn(
            round_id=draft.state.round_id,
            node=self._from,
            said=self._said,
            intent=self._meaning.intent,
            score=self._meaning.score,
            reply=" ".join(action.text for action in draft.actions if isinstance(action, Say)),
            heard=heard,
            supersedes=supersedes,
            source=source,
            unanswered=self._unanswered,
        )
        draft.state = replace(draft.state, history=(*draft.state.history, turn)[-HISTORY_TURNS:])
        return self._done()

    # Ways out

    def _turns_spent(self) -> bool:
        """Leave by the flow's way out where the call has had its turns."""
        limit, way_out = self._flow.max_turns, self._flow.give_up
        if limit is None or way_out is None or self._draft.state.turns <= limit:
            return False
        self._enter(way_out)
        return True

    def _leave_circle(self) -> None:
        """Leave by the flow's way out where the call comes to one node again and again and gets nowhere."""
        draft = self._draft
        slots, node = len(draft.state.slots), draft.state.node
        visits = draft.state.visits if slots <= draft.state.most_slots else {}
        count = visits.get(node, 0) + 1
        draft.state = replace(
            draft.state, visits={**visits, node: count}, most_slots=max(slots, draft.state.most_slots)
        )
        limit, way_out = self._flow.max_repeats, self._flow.give_up
        if limit is not None and way_out is not None and count > limit and not draft.state.ended and node != way_out:
            draft.actions.clear()
            draft.heard.forget()
            self._enter(way_out)

    def _misunderstand(self, node: Node, value: SlotValue | InvalidValue | None) -> None:
        failures = self._draft.state.no_match
        self._draft.count_no_match(failures + 1)
        refused = node.invalid if isinstance(value, InvalidValue) else ()
        self._try_again(node, node.no_match, failures, refused)

    def _try_again(self, node: Node, patience: Patience, failures: int, instead: Sequence[Prompt] | None) -> None:
        """Say the prompt for this many failures (or `instead`) and ask again; give up once they are spent."""
        if failures >= len(patience.prompts) and patience.give_up is not None:
            self._draft.heard.forget()  # what was not understood here must not fill a slot there
            self._enter(patience.give_up)
            return
        prompts = patience.prompts[min(failures, len(patience.prompts) - 1) :][:1] if patience.prompts else ()
        self._draft.say(instead or prompts, node)
        self._draft.ask(node)

    # Moves

    @property
    def _intent(self) -> str:
        """The turn's intent; "" where nothing was said, or nothing understood."""
        known = self._meaning.score >= self._flow.min_score and self._meaning.intent != OUT_OF_SCOPE
        return self._meaning.intent if known and self._draft.heard.words else ""

    def _understand(self, node: Node) -> None:
        draft, intent, match = self._draft, self._intent, self._meaning.faq
        if match is not None and (match.verbatim or node.faq is FaqPlace.FIRST) and self._answer(node, match):
            return
        route = self._route(node.on, self._flow.anywhere, intent)
        if node.confirm and (route is None or intent in node.on) and draft.correct(node):
            draft.end_failures()
            draft.ask(node)
            return
        if route and route.to != node.name:
            self._take(node, route)
            return
        value: SlotValue | InvalidValue | None = None
        if node.collect and draft.heard.words:
            value = draft.read(self._flow.slots[node.collect], asked=True)
            if isinstance(value, SlotValue):
                self._enter(node.name)
                return
        if route is None and value is None and match is not None and self._answer(node, match):
            return
        if anything := self._route(node.on, self._flow.anywhere, ANY_INTENT):
            self._take(node, anything)
        elif route and not node.collect:
            self._take(node, route)
        elif value is None and node.assistant and self._assistant:
            draft.say_words(self._assistant, node, ASSISTANT)
            self._stay()
            draft.ask(node)
        else:
            self._unanswered = value is None and bool(draft.heard.words)
            self._misunderstand(node, value)

    def _route(
        self,
        own: Mapping[str, tuple[Transition, ...]],
        common: Mapping[str, tuple[Transition, ...]],
        key: str,
    ) -> Transition | None:
        options = own.get(key) or common.get(key, ())
        return next((t for t in options if self._fits(t)), None)

    def _fits(self, transition: Transition) -> bool:
        if transition.needs is not None and transition.needs not in self._draft.state.slots:
            return False
        if transition.changes and not self._draft.changed(transition):
            return False
        return self._draft.hold(transition.when)

    def _take(self, node: Node, transition: Transition) -> None:
        draft = self._draft
        changed = draft.changed(transition)
        if transition.to is None:  # elsewhere it is confirmed first, and until then what was agreed on stands
            draft.renew(changed)
        for name, value in changed.items():
            draft.fill(name, value)
        if transition.forget:
            draft.forget(transition.forget)
        draft.say(transition.say, node)
        if transition.to is not None:
            self._enter(transition.to)
            return
        if changed:
            draft.end_failures()
        else:
            self._stay()
        if transition.stay is Stay.LISTEN:
            draft.listen(node)
            return
        if transition.stay is Stay.REPEAT:
            draft.say(node.say, node)
        draft.ask(node)

    def _answer(self, node: Node, match: FaqMatch) -> bool:
        """Answer a question of the FAQ and ask the node's again; False where it has no answer here."""
        entry = self._flow.faq.entries.get(match.entry)  # the model's process may have read another version of the file
        if entry is None or node.faq is FaqPlace.NEVER or not self._draft.hold(entry.when):
            return False
        said = len(self._draft.actions)
        self._draft.say(entry.answer, node, source=f"faq/{match.entry}")
        if len(self._draft.actions) == said:
            return False
        self._stay()
        self._draft.ask(node)
        return True

    def _stay(self) -> None:
        """A side question is not an understood answer: failures go on counting, silence does not."""
        self._draft.state = replace(self._draft.state, no_input=0)

    def _enter(self, name: str) -> None:
        """Enter a node and those it passes on to, until one listens or ends. `flow_yaml` refuses circles."""
        draft = self._draft
        while True:
            node = self._flow.nodes[name]
            draft.state = replace(
                draft.state,
                node=name,
                no_input=0,
                no_match=0,
                outcome=node.outcome or draft.state.outcome,
            )
            draft.note(node)
            if node.collect:
                refused = draft.collect(node, asked=self._asked)
                if node.collect in draft.state.slots:
                    name = self._next(node)
                    continue
                if refused:
                    draft.say(node.invalid, node)
                    draft.count_no_match(1)
                    draft.ask(node)
                    return
            draft.say(node.say, node, question=node.listens and not node.ask)
            if node.ends:
                draft.end(node)
                return
            if node.webhook is not None:
                draft.call_webhook(node, node.webhook)
                return
            if node.collect or node.then is None:
                draft.ask(node)
                return
            name = self._next(node)

    def _next(self, node: Node) -> str:
        """Where a node passes on to: the first branch that holds, else `then`."""
        assert node.then is not None
        return next((branch.to for branch in node.branches if self._draft.hold(branch.when)), node.then)

    @property
    def _asked(self) -> str | None:
        """The slot that the caller has just been asked for."""
        node = self._flow.nodes.get(self._from)
        return node.collect if node else None
