"""Scripted calls through a real socket: what came is compared with what the script expects."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialogue.bots import load_bot
from dialogue.script import Call, load_script
from gateway.replay.client import Recording
from gateway.replay.spoken_script import caller_recordings, can_be_spoken, speak_call
from tests.fakes import ToneSynthesizer
from tests.gateway.harness import rig, speech
from tts_stub.synthesis import Voice

pytestmark = pytest.mark.unit


def scripted(tmp_path: Path, turns: str, rest: str = "") -> Call:
    path = tmp_path / "calls.yaml"
    path.write_text(f"today: 2026-11-21\ncalls:\n  one:\n    greeting: test bot\n    turns: {turns}\n{rest}")
    found, faults = load_script(path)
    assert found is not None, faults
    return found.calls[0]


@pytest.mark.parametrize(
    ("turn", "spoken"), [("{caller: hello}", True), ("{keys: '1'}", True), ("{silence: true}", False)]
)
def test_only_words_and_keys_can_be_spoken(tmp_path: Path, turn: str, spoken: bool) -> None:
    assert can_be_spoken(scripted(tmp_path, f"[{{caller: 'yes'}}, {turn}]")) is spoken


def test_each_line_is_a_recording_named_by_its_place(tmp_path: Path) -> None:
    call = scripted(tmp_path, "[{caller: 'yes'}, {caller: 'no thank you'}]")
    recordings = caller_recordings(call, ToneSynthesizer(), Voice(), sample_rate_hz=8000)
    assert [recording.name for recording in recordings] == ["0", "1"]
    assert all(recording.pcm.any() for recording in recordings)


async def test_a_call_that_goes_as_scripted(tmp_path: Path) -> None:
    call = scripted(tmp_path, "[{caller: 'yes', intent: affirm, node: bye, hears: good bye}]", "    ends: done\n")
    async with rig(tmp_path) as gateway:
        bot = load_bot(tmp_path / "tester")
        done = await speak_call(bot, call, [Recording("0", speech())], gateway.url())
    assert done.passed, list(done.mismatches())
    assert [exchange.caller for exchange in done.exchanges] == ["", "yes"]


async def test_keys_between_words(tmp_path: Path) -> None:
    turns = "[{keys: '44#', node: greet, hears: Sorry}, {caller: 'yes', intent: affirm, hears: good bye}]"
    call = scripted(tmp_path, turns, "    ends: done\n")
    async with rig(tmp_path) as gateway:
        bot = load_bot(tmp_path / "tester")
        keys, words = caller_recordings(call, ToneSynthesizer(), Voice(), sample_rate_hz=8000)
        assert (keys.keys, len(keys.pcm), words.keys) == ("44#", 0, "")
        done = await speak_call(bot, call, [keys, Recording("1", speech())], gateway.url())
    assert done.passed, list(done.mismatches())
    assert [exchange.caller for exchange in done.exchanges] == ["", "(presses 44#)", "yes"]


async def test_what_went_another_way_is_told_with_what_was_heard(tmp_path: Path) -> None:
    turns = "[{caller: 'more', intent: more, node: greet}, {caller: 'no'}]"
    call = scripted(tmp_path, turns, "    ends: other\n")
    async with rig(tmp_path) as gateway:
        bot = load_bot(tmp_path / "tester")
        done = await speak_call(bot, call, [Recording("0", speech()), Recording("1", speech())], gateway.url())
    told = {(m.key, m.got) for m in done.mismatches()}
    assert told == {
        ("intent", "affirm 0.90"),
        ("node", "bye"),
        ("caller", "no turn: the call was over, or no words were heard"),
        ("ends", "done"),
    }
    assert done.exchanges[1].caller == "more  [heard: yes]"
