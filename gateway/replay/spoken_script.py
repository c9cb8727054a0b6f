"""Scripted calls, spoken: the caller's lines synthesised, keys pressed, the call placed through a running gateway.

The gateway's day is today, not the script's: what the script expects is first checked by text on today's date, and what
does not hold there ("Friday, November 27th") is not expected of the spoken call either. Slots are not seen from
outside.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from dialogue.bots import Bot
from dialogue.rehearsal import Exchange, Mismatch, Rehearsal, act_of, judged, judged_end, rehearse
from dialogue.script import Call, Expected, Turn
from gateway.replay.client import CallClient, CallResult, Recording, TurnResult
from nlu.meaning import Meaning
from tts_stub.shaping import shape_prompt
from tts_stub.synthesis import Synthesizer, Voice

__all__ = ["can_be_spoken", "caller_recordings", "speak_call"]


def can_be_spoken(call: Call) -> bool:
    """Whether the caller only speaks and presses keys, and no assistant of the script's answers: silence and lost lines
    are for the run by text."""
    return all((turn.words is not None or turn.keys is not None) and not turn.assistant for turn in call.turns)


def caller_recordings(call: Call, synthesizer: Synthesizer, voice: Voice, *, sample_rate_hz: int) -> list[Recording]:
    """The caller's lines as sound, or keys, named by their place in the script.

    Raises:
        SynthesisError: a line that cannot be spoken.
    """
    recordings = []
    for number, turn in enumerate(call.turns):
        if turn.keys is not None:
            recordings.append(Recording(str(number), np.zeros(0, np.int16), turn.keys))
            continue
        pcm = synthesizer.synthesize(turn.words or "", voice, sample_rate_hz)
        shaped = shape_prompt(pcm, sample_rate_hz)
        recordings.append(Recording(str(number), pcm if shaped is None else shaped[0]))
    return recordings


async def speak_call(
    bot: Bot, call: Call, recordings: list[Recording], url: str, *, token: str | None = None
) -> Rehearsal:
    """Place the call and compare what came with what the script expects.

    Raises:
        CallError: no connection; the message says why.
    """
    targets: list[str] = []

    def note(event: dict[str, Any]) -> None:
        if event["type"] == "transfer":
            targets.append(event["target"])

    metadata = dict(call.metadata)
    client = CallClient(url, bot=bot.name, metadata=metadata, token=token, on_event=note, keep_audio=False)
    return _judge(bot, call, await client.run(recordings), targets)


def _judge(bot: Bot, call: Call, result: CallResult, targets: list[str]) -> Rehearsal:
    by_text = rehearse(bot, call, None, today=date.today())
    greeting = Exchange(caller="", said=result.greeting, node=bot.flow.start, meaning=None, slots={})
    exchanges = [judged(greeting, Expected(hears=call.greeting), call.line)]
    heard = {turn.spoken: turn for turn in result.turns}
    at_end: list[Mismatch] = [
        Mismatch(line=call.line, key="errors", expected="none", got=error) for error in result.errors
    ]
    for number, turn in enumerate(call.turns):
        got = heard.get(str(number))
        if got is None:
            why = "no turn: the call was over, or no words were heard"
            at_end.append(Mismatch(line=turn.line, key="caller", expected=act_of(turn), got=why))
            continue
        on_the_day = _on_the_day(turn.expected, by_text, number + 1)
        exchanges.append(judged(_exchange(turn, got), on_the_day, turn.line))
    over = result.ended_by in ("bot", "transfer")
    disposition = result.disposition if over else f"the call ended by {result.ended_by}"
    target = targets[-1] if targets else None
    if call.ends is not None and result.ended_by != "transfer":
        at_end += judged_end(replace(call, transfer=None), disposition, None)
    at_end += judged_end(replace(call, ends=None), disposition, target)
    return Rehearsal(call=call, exchanges=tuple(exchanges), at_end=tuple(at_end), disposition=disposition)


def _exchange(turn: Turn, got: TurnResult) -> Exchange:
    if turn.words is None:
        return Exchange(caller=act_of(turn), said=got.reply, node=got.node, meaning=None, slots={}, source=got.source)
    heard = turn.words if got.transcript == turn.words else f"{turn.words}  [heard: {got.transcript}]"
    meaning = Meaning(got.intent, got.score)
    return Exchange(caller=heard, said=got.reply, node=got.node, meaning=meaning, slots={}, source=got.source)


def _on_the_day(expected: Expected, by_text: Rehearsal, number: int) -> Expected:
    """What of it holds by text today, without slots."""
    exchanges = by_text.exchanges
    failed = {(m.key, m.expected) for m in exchanges[number].mismatches} if number < len(exchanges) else set()
    return replace(
        expected,
        slots={},
        node=None if ("node", expected.node) in failed else expected.node,
        hears=tuple(part for part in expected.hears if ("hears", part) not in failed),
        hears_not=tuple(part for part in expected.hears_not if ("hears_not", part) not in failed),
    )
