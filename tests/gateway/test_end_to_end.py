"""The product as its users run it: `voicegate serve` and `voicegate call` as processes, real models, real audio."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.replay.call_ear import CallResult
from tests.test_prometheus import SERIES, asked_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

DEMO = Path(__file__).parent.parent.parent / "gateway" / "demo"
VOICEGATE = [sys.executable, "-c", "from gateway.cli import main; main()"]
PROMISE = sorted(DEMO.glob("*.wav"))


@dataclass
class Server:
    """A running `voicegate serve`."""

    process: subprocess.Popen[str]
    url: str
    control: str
    log: Path

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.control + path, timeout=5) as answer:
            return str(answer.read().decode())

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def serve(log_file: Path, *options: str, environ: dict[str, str] | None = None) -> Server:
    """Start a server on free ports and wait until it says where it is."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("VOICEGATE_", "REDIS_URL"))}
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [*VOICEGATE, "serve", "--port", "0", "--control-port", "0", *options],
            stderr=log,
            stdout=log,
            env={**inherited, "VOICEGATE_LIMITS_DRAIN_S": "1", **(environ or {})},
            text=True,
        )
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        text = log_file.read_text()
        calls, health = re.search(r"calls +(ws://\S+)", text), re.search(r"health +(http://\S+)/readyz", text)
        if calls and health:
            return Server(process, calls[1], health[1], log_file)
        if process.poll() is not None:
            raise AssertionError(f"serve ended with {process.returncode}:\n{text}")
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"serve is not ready:\n{log_file.read_text()}")


def call(url: str, *audio: Path, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """`voicegate call --json`, its document."""
    done = subprocess.run(
        [*VOICEGATE, "call", *map(str, audio), "--url", url, "--json", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    document["exit"] = done.returncode
    return document


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """At debug: it says more of everything but of what callers say."""
    running = serve(tmp_path_factory.mktemp("serve") / "log", environ={"VOICEGATE_LOG_LEVEL": "debug"})
    yield running
    running.stop()


def test_the_demo_call_ends_in_a_promise_with_every_timing(server: Server) -> None:
    document = call(server.url, *PROMISE)
    assert document["exit"] == 0 and document["ended_by"] == "bot" and document["errors"] == []
    assert document["disposition"] == "promise_to_pay"
    assert len(document["turns"]) >= 5
    slots = {slot["name"] for turn in document["turns"] for slot in turn["slots"]}
    assert {"digits", "date"} <= slots
    assert document["first_utterance_ms"] < 200
    for turn in document["turns"]:
        assert turn["transcript"] and turn["reply"] and turn["score"] > 0
        assert turn["endpoint_to_reply_ms"] < 1000 and turn["speech_end_to_reply_ms"] > 0
    check_metrics(server.get("/metrics"))
    assert json.loads(server.get("/readyz"))["ready"] is True
    said = {turn["transcript"] for turn in document["turns"]}
    filled = {slot["value"] for turn in document["turns"] for slot in turn["slots"]}
    written = server.log.read_text(encoding="utf-8").lower()
    assert "call started" in written
    assert [words for words in sorted(said | filled) if re.search(rf"\b{re.escape(words)}\b", written)] == []


def check_metrics(page: str) -> None:
    """Every series is one that the dashboard's test knows, with the same labels; and what the dashboard and the alerts
    ask for is there, but for what this call had no reason for."""
    told: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            told.setdefault(sample.name, set(sample.labels))
    assert {name: SERIES[name] for name in told} == told
    assert 'voicegate_calls_ended_total{ended_by="bot"}' in page
    no_reason = {"voicegate_overlaps_total", "voicegate_webhooks_total"}
    assert asked_for() - told.keys() <= no_reason


def test_a_scripted_caller_goes_the_same_way_when_it_speaks(server: Server) -> None:
    """The shortest; `voicegate bot test bill-reminder .../spoken.yaml --audio` has all."""
    from dialogue.bots import load_bot
    from dialogue.script import SCRIPTS_FOLDER, load_script
    from gateway.replay.spoken_script import caller_recordings, can_be_spoken, speak_call
    from tts_stub.espeak import EspeakSynthesizer
    from tts_stub.synthesis import Voice

    bot = load_bot("bill-reminder")
    script, faults = load_script(bot.directory / SCRIPTS_FOLDER / "spoken.yaml")
    assert script is not None, faults
    assert len(script.calls) >= 10 and all(map(can_be_spoken, script.calls))
    shortest = min(script.calls, key=lambda call: len(call.turns))
    said = caller_recordings(shortest, EspeakSynthesizer(), Voice(bot.voice.name, 150), sample_rate_hz=8000)
    done = asyncio.run(speak_call(bot, shortest, said, server.url))
    assert done.passed, list(done.mismatches())
    assert done.disposition == shortest.ends == "do_not_call"


def test_many_calls_at_once_hear_what_few_do(server: Server) -> None:
    """Three callers with different words, three calls and then twenty: nobody hears another's words."""
    scripts = [PROMISE[:2], PROMISE[2:4], PROMISE[4:6]]
    with ThreadPoolExecutor(20) as pool:
        few = [texts(document) for document in pool.map(lambda script: call_in_process(server.url, script), scripts)]
        many = list(pool.map(lambda i: call_in_process(server.url, scripts[i % 3]), range(20)))
    assert len({text for heard in few for text in heard}) == 6
    for index, document in enumerate(many):
        assert texts(document) == few[index % 3]
        assert document.first_utterance_ms is not None and document.first_utterance_ms <= 1000


def call_in_process(url: str, script: list[Path]) -> CallResult:
    """A call from this process: twenty interpreters at once would measure only their own start."""
    from audio.files import read_audio
    from gateway.replay.client import CallClient, Recording

    recordings = [Recording(path.name, read_audio(path, 8000)) for path in script]
    return asyncio.run(CallClient(url, bot="load").run(recordings))


def texts(document: CallResult) -> list[str]:
    return [turn.transcript for turn in document.turns]


def test_a_second_serve_on_the_port_is_refused(server: Server, tmp_path: Path) -> None:
    port = server.url.rsplit(":", 1)[1].split("/")[0]
    done = subprocess.run(
        [*VOICEGATE, "serve", "--port", port, "--control-port", "0"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert port in done.stderr and "--port" in done.stderr and "Traceback" not in done.stderr


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`, from /proc: `ps` is not everywhere."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:  # it ended while we looked
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_kill_9_leaves_no_orphan_and_the_call_goes_on_after_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = serve(tmp_path / "log1", "--state-dir", str(state), "--bot", "bill-reminder")
    family = children(first.process.pid)
    assert len(family) >= 4  # Valkey, inference, control, worker

    def kill_in_the_reply(event: dict[str, Any]) -> None:
        if event["type"] == "prompt" and event["round_id"] == 2:
            first.process.kill()

    from audio.files import read_audio
    from gateway.replay.client import CallClient, Recording

    recordings = [Recording(path.name, read_audio(path, 8000)) for path in PROMISE]
    client = CallClient(first.url, call_id="survivor", on_event=kill_in_the_reply)
    cut_off = asyncio.run(client.run(recordings))
    assert cut_off.ended_by == "error" and len(cut_off.turns) == 2
    first.process.wait()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in family if alive(pid)] == []
    second = serve(tmp_path / "log2", "--state-dir", str(state), "--bot", "bill-reminder")
    try:
        again = call(second.url, PROMISE[3], options=("--call-id", "survivor"))
        assert again["resumed"] is True
        assert again["turns"][0]["round_id"] == 3
        assert "Am I speaking with" not in again["greeting"]
        # The account number given before the crash is still known: a date is taken at once.
        assert again["turns"][0]["node"] == "confirm_promise"
    finally:
        assert second.stop() == 0


def test_a_broken_configuration_says_all_that_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "voicegate.toml"
    config.write_text("prot = 1\n[limits]\ncalls_per_worker = 0\n[playout]\nptime_ms = 25\n")
    done = subprocess.run(
        [*VOICEGATE, "serve", "--config", str(config), "--host", "0.0.0.0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    for part in ("prot", "did you mean port", "calls_per_worker", "ptime_ms"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing-there.wav"], "nothing-there.wav"),
        (["README"], "README"),
        (["--sample-rate", "7999", "x.wav"], "7999"),
        (["--url", "ws://127.0.0.1:1/v1/call", str(PROMISE[0])], "voicegate serve"),
        (["--url", "http://127.0.0.1:1", str(PROMISE[0])], "http://127.0.0.1:1"),
    ],
)
def test_a_call_that_cannot_be_placed_says_why(tmp_path: Path, arguments: list[str], told: str) -> None:
    (tmp_path / "README").write_text("not audio")
    done = subprocess.run(
        [*VOICEGATE, "call", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
        env={**os.environ, "PYTHONPATH": str(DEMO.parent.parent)},
    )
    assert done.returncode in (1, 2)
    assert told in done.stderr and "Traceback" not in done.stderr


def test_a_token_opens_a_guarded_gateway_and_nothing_else_does(tmp_path: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef"
    server = serve(tmp_path / "log", environ={"VOICEGATE_AUTH_SECRET": secret})
    try:
        refused = call(server.url, PROMISE[0])
        assert refused["exit"] == 1 and "token" in refused["errors"][0]
        minted = subprocess.run(
            [*VOICEGATE, "token", "--scope", "call", "--json"],
            capture_output=True,
            text=True,
            env={**os.environ, "VOICEGATE_AUTH_SECRET": secret},
            timeout=60,
            check=True,
        )
        token = json.loads(minted.stdout)["token"]
        welcome = call(server.url, PROMISE[0], options=("--token", token, "--bot", "load"))
        assert welcome["exit"] == 0 and len(welcome["turns"]) == 1
        assert call(server.url, PROMISE[0], options=("--token", token + "x"))["exit"] == 1
        assert token not in (tmp_path / "log").read_text()
    finally:
        assert server.stop() == 0
