"""Two versions' outcomes of one tape, side by side; and a whole comparison against a worker."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from audio.formats import AudioFormat
from gateway.cli.replay import register
from gateway.replay.client import CallClient, Recording
from gateway.replay.diff import Comparison, Side, compare
from gateway.replay.outcome import Outcome, TurnOutcome, outcome_of, read_outcome
from gateway.replay.tape import TapeRecorder, read_tape
from tests.gateway.harness import FLOW, rig, speech

BRIEF = FLOW.replace("Hello this is the test bot speaking to you now and for quite a while", "Hello")
"""The test's bot, greeting in a word."""


def turn(spoken: str, words: str, **more: object) -> TurnOutcome:
    return TurnOutcome(spoken=spoken, transcript=words, intent="affirm", **more)  # type: ignore[arg-type]


CALL = Outcome(greeting="Hello", turns=(turn("a", "yes"), turn("b", "friday")), ended_by="bot", disposition="done")


def sides(before: Outcome, after: Outcome) -> Comparison:
    return compare("one.tape", Side(name="old", outcome=before), Side(name="new", outcome=after))


@pytest.mark.unit
def test_the_same_is_the_same_whatever_it_took() -> None:
    slower = replace(CALL, first_utterance_ms=30.0, turns=(replace(CALL.turns[0], score=0.5), CALL.turns[1]))
    assert sides(CALL, slower).same


@pytest.mark.unit
def test_what_differs_is_named_by_turn_and_for_the_call() -> None:
    other = replace(CALL, turns=(CALL.turns[0], turn("b", "five", reply="Which day?")), ended_by="out_of_audio")
    found = sides(CALL, other)
    assert [pair.differs for pair in found.turns] == [(), ("transcript", "reply")]
    assert found.differs == ("ended_by",) and not found.same


@pytest.mark.unit
def test_an_utterance_heard_as_two_shifts_nothing() -> None:
    split = replace(CALL, turns=(turn("a", "yes"), turn("a", "speaking"), turn("b", "friday"), turn("c", "bye")))
    found = sides(CALL, split)
    assert [(pair.spoken, pair.before is not None, pair.after is not None) for pair in found.turns] == [
        ("a", True, True),
        ("a", False, True),
        ("b", True, True),
        ("c", False, True),
    ]
    assert [bool(pair.differs) for pair in found.turns] == [False, True, False, True]
    back = sides(split, CALL)
    assert [pair.spoken for pair in back.turns] == ["a", "a", "b", "c"]


@pytest.mark.unit
def test_latencies_are_compared_and_the_document_is_json() -> None:
    timed = replace(CALL, first_utterance_ms=3.0, turns=(replace(CALL.turns[0], endpoint_to_reply_ms=7.0),))
    found = sides(CALL, timed)
    assert found.latencies["first_utterance_ms"] == {"before": {}, "after": {"p50": 3, "p90": 3, "p99": 3, "max": 3}}
    assert found.latencies["endpoint_to_reply_ms"]["after"]["max"] == 7
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["schema"] == "voicegate.compare/1" and document["same"] is False
    assert document["before"]["name"] == "old" and document["turns"][0]["after"]["transcript"] == "yes"
    assert read_outcome(document["after"]["outcome"]) == timed


@pytest.mark.e2e
async def test_a_taped_call_is_the_same_again_and_differs_where_another_model_hears_otherwise(tmp_path: Path) -> None:
    file = io.StringIO()
    async with rig(tmp_path, hear="yes", flow=BRIEF) as running:
        recorder = TapeRecorder(file, AudioFormat(), bot="tester")
        client = CallClient(running.url(), bot="tester", recorder=recorder, keep_audio=False)
        result = await client.run([Recording("yes.wav", speech())])
        path = tmp_path / "one.tape"
        path.write_text(file.getvalue())
        assert read_tape(path).heard == outcome_of(result)
        code, told = await asyncio.to_thread(replay, str(path), "--against", running.url(), "--gate")
    assert code == 0 and "the same" in told and "yes.wav" in told, told
    async with rig(tmp_path, hear="more", flow=BRIEF) as running:
        code, told = await asyncio.to_thread(replay, str(path), "--against", running.url(), "--gate", "--json")
    assert code == 1, told
    found = json.loads(told)
    (pair,) = found["turns"]
    assert (pair["spoken"], pair["before"]["transcript"], pair["after"]["transcript"]) == ("yes.wav", "yes", "more")
    assert {"transcript", "intent", "reply"} <= set(pair["differs"]) and not found["same"]
    assert {"ended_by", "disposition"} <= set(found["differs"])


def replay(*words: str) -> tuple[int, str]:
    """Exit code and stdout of `voicegate replay`."""
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.stdout
