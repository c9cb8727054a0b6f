"""What a node waits for, from the flow to the recogniser: in the endpoint's job and in the speculation's alike."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from audio.asr import AsrJob, Expectation
from dialogue.flow_yaml import load_flow
from gateway.inference.local import LocalInference
from gateway.inference.unix_socket import InferenceServer, SocketInference
from tests.fakes import ScriptedAsr
from tests.gateway.harness import Peer, rig, silence, speech

pytestmark = pytest.mark.unit

FLOW = """
start: greet
no_input: {after_ms: never, prompts: [Are you there], give_up: bye}
no_match: {prompts: [Sorry], give_up: bye}
slots:
  account: {type: digits, min_length: 4}
nodes:
  greet:
    ask: Am I speaking with you
    expect: yes_no
    keys: {"5": number}
    on:
      affirm: number
      "*": {say: I see, stay: listen}
  number:
    ask: What is your number
    collect: account
    then: bye
  bye:
    say: Good bye
    hang_up: done
"""


async def asked(peer: Peer, count: int) -> None:
    """Until the bot has said its `count`-th prompt, heard by the client."""
    await peer.event("prompt", count=count)
    mark = await peer.event("mark", count=count)
    await peer.say(type="mark_reached", name=mark["name"])


@pytest.mark.parametrize("speculate", ["true", "false"])
async def test_each_node_is_listened_to_with_its_own_expectation(tmp_path: Path, speculate: str) -> None:
    environ = {"VOICEGATE_ASR_SPECULATE": speculate, "VOICEGATE_LIMITS_FLOOD_S": "9"}
    async with rig(tmp_path, flow=FLOW, environ=environ) as running:
        peer = await running.peer(start={})
        await asked(peer, 1)
        await peer.send(np.concatenate([speech(), silence(1000)]))
        await asked(peer, 2)
        await peer.send(np.concatenate([speech(), silence(1000)]))
        await peer.event("transcript", count=2)
        assert [job.expect for job in running.asr.jobs] == [Expectation.YES_NO, Expectation.DIGITS]
        used = running.metric("voicegate_speculation_total", outcome="used")
        assert used == (2 if speculate == "true" else 0)


async def test_a_speculation_made_for_another_node_is_not_used(tmp_path: Path) -> None:
    """Between the pause and the end of the tail a key moves the dialogue on: the same samples, another question."""
    async with rig(
        tmp_path, flow=FLOW, hear=lambda job: "yes" if job.expect is Expectation.YES_NO else "four"
    ) as running:
        peer = await running.peer(start={})
        await asked(peer, 1)
        await peer.send(np.concatenate([speech(), silence(400)]))
        await peer.say(type="dtmf", digit="5")
        await peer.say(type="dtmf", digit="#")
        await peer.event("prompt", count=2)
        await peer.send(silence(1000))
        assert (await peer.event("transcript"))["text"] == "four"
        assert [job.expect for job in running.asr.jobs] == [Expectation.YES_NO, Expectation.DIGITS]
        assert np.array_equal(running.asr.jobs[-2].pcm, running.asr.jobs[-1].pcm)
        assert running.metric("voicegate_speculation_total", outcome="wasted") >= 1
        assert running.metric("voicegate_speculation_total", outcome="used") == 0


async def test_the_inference_worker_is_told(tmp_path: Path) -> None:
    asr = ScriptedAsr()
    with tempfile.TemporaryDirectory(prefix="vg-") as folder:
        path = Path(folder) / "inference.sock"
        async with LocalInference(asr, {}) as local:
            server = InferenceServer(local)
            await server.start(path)
            async with SocketInference(path) as client:
                for expect in (*Expectation, None):
                    await client.transcribe(AsrJob(pcm=np.zeros(800, np.int16), expect=expect), timeout_s=5)
            await server.stop()
    assert [job.expect for job in asr.jobs] == [*Expectation, None]
    assert all(job.expect is None or type(job.expect) is Expectation for job in asr.jobs)


@pytest.mark.parametrize("expect", list(Expectation))
def test_a_flow_may_name_every_expectation(tmp_path: Path, expect: Expectation) -> None:
    """The dialogue has its own words, since it imports no audio: they are the same."""
    path = tmp_path / "flow.yaml"
    path.write_text(FLOW.replace("expect: yes_no", f"expect: {expect}"))
    flow, faults = load_flow(path, language="en")
    assert flow is not None, faults
    assert flow.nodes["greet"].expect == expect
    assert Expectation(flow.nodes["number"].expect or "") is Expectation.DIGITS
