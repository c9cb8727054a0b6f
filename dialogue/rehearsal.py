"""Running a scripted call by text against a bot, and saying where the two part ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from dialogue.bots import Bot
from dialogue.flow import Faq
from dialogue.script import Call, Expected, Turn
from dialogue.step import MetadataError
from dialogue.text_call import Reply, TextCall, Understand
from nlu.meaning import OUT_OF_SCOPE, FaqMatch, Meaning
from nlu.normalization import bare_letters

__all__ = ["Exchange", "Mismatch", "Rehearsal", "act_of", "judged", "judged_end", "rehearse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One expectation that does not hold: `key` is the script's word for it."""

    line: int
    key: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What the caller did (`caller` "" before the greeting) and what came back; `source` says where the answer is from,
    if not from the flow."""

    caller: str
    said: str
    node: str
    meaning: Meaning | None
    slots: dict[str, str]
    source: str | None = None
    mismatches: tuple[Mismatch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """One call, run. The call's own mismatches (its end) stand beside those of its turns."""

    call: Call
    exchanges: tuple[Exchange, ...]
    at_end: tuple[Mismatch, ...]
    disposition: str | None

    @property
    def passed(self) -> bool:
        """Whether everything expected held."""
        return not any(True for _ in self.mismatches())

    def mismatches(self) -> Iterator[Mismatch]:
        """All of them, in the order of the script."""
        for exchange in self.exchanges:
            yield from exchange.mismatches
        yield from self.at_end


def rehearse(bot: Bot, call: Call, understand: Understand | None, *, today: date) -> Rehearsal:
    """Run one call from its greeting to its last turn, going on after a mismatch while the call goes on.

    Args:
        understand: the bot's model; None: the intents and marks of the script are taken as understood.
    """
    talk = TextCall(bot, understand or _nothing, today=today, metadata=call.metadata)
    try:
        reply = talk.open()
    except MetadataError as error:
        fault = Mismatch(line=call.line, key="metadata", expected="values that the bot takes", got=str(error))
        return Rehearsal(call=call, exchanges=(), at_end=(fault,), disposition=None)
    greeting = Expected(hears=call.greeting)
    exchanges = [judged(_exchange("", reply), greeting, call.line)]
    transfer, at_end = reply.transfer, list[Mismatch]()
    for turn in call.turns:
        if talk.state.ended:
            said = f"the bot ended the call before, with {talk.state.disposition!r}"
            at_end.append(Mismatch(line=turn.line, key="turns", expected=act_of(turn), got=said))
            break
        reply = _perform(talk, turn, None if understand else bot.flow.faq)
        transfer = reply.transfer or transfer
        exchanges.append(judged(_exchange(act_of(turn), reply), turn.expected, turn.line))
    state = talk.state
    at_end += judged_end(call, state.disposition or f"the call goes on at node {state.node}", transfer)
    return Rehearsal(call=call, exchanges=tuple(exchanges), at_end=tuple(at_end), disposition=state.disposition)


def judged(exchange: Exchange, expected: Expected, line: int) -> Exchange:
    """The exchange with what does not hold of what the script expects at `line`."""
    return replace(exchange, mismatches=tuple(_compare(expected, exchange, line)))


def judged_end(call: Call, disposition: str, transfer: str | None) -> Iterator[Mismatch]:
    """What does not hold of the call's end."""
    if call.ends is not None and disposition != call.ends:
        yield Mismatch(line=call.line, key="ends", expected=call.ends, got=disposition)
    if call.transfer is not None and transfer != call.transfer:
        yield Mismatch(line=call.line, key="transfer", expected=call.transfer, got=transfer or "no transfer")


def _nothing(words: str) -> Meaning:
    return Meaning(OUT_OF_SCOPE, 0.0)


def act_of(turn: Turn) -> str:
    """The caller's part as a person reads it."""
    if turn.words is not None:
        return turn.words
    if turn.keys is not None:
        return f"(presses {turn.keys})"
    if turn.fails or turn.answer is not None:
        return "(your system does not answer)" if turn.fails else f"(your system answers {turn.answer})"
    return "(comes back)" if turn.reconnects else "(silence)"


def _perform(talk: TextCall, turn: Turn, faq: Faq | None) -> Reply:
    """`faq` None: the bot's model understands the caller; else the script's word is taken, for the FAQ too."""
    if turn.words is not None:
        if faq is None:
            return talk.say(turn.words, turn.assistant)
        return talk.mean(turn.words, _given(turn.words, turn, faq), turn.assistant)
    if turn.keys is not None:
        return talk.press(turn.keys)
    if turn.fails or turn.answer is not None:
        return talk.answer(turn.answer)
    return talk.reconnect() if turn.reconnects else talk.wait()


def _given(words: str, turn: Turn, faq: Faq) -> Meaning:
    """What the script says was meant."""
    intent, asked = turn.expected.intent, turn.expected.faq
    match = None
    if asked is not None:
        wordings = faq.entries[asked].questions if asked in faq.entries else ()
        match = FaqMatch(asked, 1.0, verbatim=bare_letters(words) in map(bare_letters, wordings))
    return Meaning(intent or OUT_OF_SCOPE, 1.0 if intent else 0.0, turn.marked, match)


def _exchange(caller: str, reply: Reply) -> Exchange:
    return Exchange(
        caller=caller,
        said=reply.said,
        node=reply.state.node,
        meaning=reply.meaning,
        slots={name: slot.value for name, slot in reply.state.slots.items()},
        source=reply.source,
    )


def _compare(expected: Expected, got: Exchange, line: int) -> Iterator[Mismatch]:
    meaning = got.meaning
    if expected.intent is not None and (meaning is None or meaning.intent != expected.intent):
        found = f"{meaning.intent} {meaning.score:.2f}" if meaning else "no words"
        yield Mismatch(line=line, key="intent", expected=expected.intent, got=found)
    if expected.node is not None and got.node != expected.node:
        yield Mismatch(line=line, key="node", expected=expected.node, got=got.node)
    if expected.faq is not None and got.source != f"faq/{expected.faq}":
        yield Mismatch(line=line, key="faq", expected=expected.faq, got=got.source or "the flow answers")
    for part in expected.hears:
        if _plain(part) not in _plain(got.said):
            yield Mismatch(line=line, key="hears", expected=part, got=got.said or "nothing")
    for part in expected.hears_not:
        if _plain(part) in _plain(got.said):
            yield Mismatch(line=line, key="hears_not", expected=part, got=got.said)
    for name, value in expected.slots.items():
        if got.slots.get(name) != value:
            yield Mismatch(line=line, key=f"slots.{name}", expected=_shown(value), got=_shown(got.slots.get(name)))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _shown(value: str | None) -> str:
    return "empty" if value is None else value
