"""Real SIP calls: baresip and SIPp call `voicegate sip`, which calls a real `voicegate serve` in each dialect.

Not part of a plain test run: a minute long, and two Debian packages. `make e2e` installs them and runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from audio.files import read_audio
from audio.formats import AudioFormat, Encoding, Pcm16
from audio.framing import encode, silence
from dialogue.state import DialogueState
from tests.e2e import baresip
from tests.e2e import proxy as kamailio
from tests.e2e.baresip import Baresip
from tests.e2e.proxy import proxy
from tests.e2e.system import Book, bridge, recognised, share_heard, spoken
from tests.gateway.test_end_to_end import Server, serve

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif("VOICEGATE_E2E" not in os.environ, reason="real SIP calls: run `make e2e`"),
]
needs_baresip = pytest.mark.skipif(baresip.modules() is None, reason=baresip.ABSENT)
needs_kamailio = pytest.mark.skipif(not kamailio.is_installed(), reason=kamailio.ABSENT)
needs_sipp = pytest.mark.skipif(
    shutil.which("sipp") is None,
    reason="SIPp is not installed; `make e2e` installs it (Debian: apt-get install sip-tester)",
)

DEMO = Path(__file__).parent.parent.parent / "gateway" / "demo"
DIALECTS = ("native", "asterisk", "asterisk-json", "twilio", "freeswitch")
SCENARIO = Path(__file__).parent / "four_calls.xml"
SIPP_PCAPS = Path("/usr/share/sip-tester")
"""DTMF as RFC 4733 packets of payload type 101, recorded by SIPp's authors."""


def recording(name: str) -> Pcm16:
    return read_audio(DEMO / name, 8000)


@dataclass(frozen=True, slots=True)
class Finished:
    """A call that is over."""

    state: DialogueState
    heard: Pcm16


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Server]:
    running = serve(tmp_path_factory.mktemp("serve") / "log", "--redis-url", redis_url)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def book(redis_url: str) -> Iterator[Book]:
    opened = Book(redis_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def greeting(gateway: Server) -> Pcm16:
    """The bill bot's first words as this gateway says them."""
    return spoken(gateway.url)


def media(gateway: Server) -> str:
    return gateway.url.removesuffix("/v1/call")


def ended(book: Book, call_id: str) -> DialogueState:
    """The call's state once somebody ended it."""
    deadline = time.monotonic() + 30
    while not (state := book.state(call_id)).ended_by:
        assert time.monotonic() < deadline, f"{call_id} does not end: {state}"
        time.sleep(0.1)
    return state


def answer_and_keys(gateway: Server, book: Book, folder: Path, dialect: str) -> Finished:
    """baresip hears the greeting, answers, keys in the account, goes on hold and back, and hangs up."""
    codec = "pcma" if dialect == "asterisk-json" else "pcmu"
    with bridge(media(gateway), folder, "--dialect", dialect) as to, Baresip(folder / dialect, codec=codec) as phone:
        phone.dial(to.uri)
        phone.listen()
        phone.speak(recording("01-yes-speaking.wav"))
        phone.listen()
        phone.press("4417#")
        phone.listen()
        phone.hold()
        phone.until(lambda: to.has_logged("the caller is now sendonly"), "hold")
        phone.resume()
        phone.until(lambda: to.has_logged("the caller is now sendrecv"), "the end of hold")
        heard = phone.heard
        phone.hang_up()
        (call_id,) = to.call_ids()
        return Finished(ended(book, call_id), heard)


@pytest.fixture(scope="module")
def five_calls(gateway: Server, book: Book, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Finished]:
    """One call in each dialect, all at once."""
    folder = tmp_path_factory.mktemp("calls")
    with ThreadPoolExecutor(len(DIALECTS)) as pool:
        calls = {dialect: pool.submit(answer_and_keys, gateway, book, folder, dialect) for dialect in DIALECTS}
        return {dialect: call.result() for dialect, call in calls.items()}


@needs_baresip
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_softphone_is_understood_and_its_keys_too(five_calls: dict[str, Finished], dialect: str) -> None:
    state = five_calls[dialect].state
    answer, keys = state.history
    assert answer.said == "yes speaking"
    assert keys.said == "4417"
    assert state.slots["account_check"].value == "4417"
    assert state.ended_by == "caller"


@needs_baresip
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_softphone_hears_what_the_gateway_said(
    five_calls: dict[str, Finished], greeting: Pcm16, dialect: str
) -> None:
    assert share_heard(five_calls[dialect].heard, greeting) > 0.8


@needs_baresip
def test_the_recogniser_reads_back_what_a_softphone_recorded(gateway: Server, tmp_path: Path) -> None:
    """With the bot `load`: of the bill bot's synthetic voice the small model reads too little to compare words."""
    with bridge(media(gateway), tmp_path, "--dialect", "freeswitch", "--bot", "load") as to:
        with Baresip(tmp_path / "phone") as phone:
            phone.dial(to.uri)
            phone.listen()
            phone.speak(recording("03-when-is-it-due.wav"))
            phone.listen()
            heard = phone.heard
            phone.hang_up()
    words = recognised(tmp_path, {"heard": heard})["heard"]
    assert words.startswith("hello i am") and words.endswith("all right go on"), words


@needs_baresip
def test_a_whole_conversation_ends_with_the_bot_hanging_up(gateway: Server, book: Book, tmp_path: Path) -> None:
    with bridge(media(gateway), tmp_path, "--dialect", "asterisk") as to:
        with Baresip(tmp_path / "phone") as phone:
            phone.dial(to.uri)
            for name in sorted(path.name for path in DEMO.glob("0*.wav")):
                phone.listen()
                phone.speak(recording(name))
            phone.until(lambda: phone.told("CALL_CLOSED"), "the bot's hang-up")
            heard = phone.heard
        (call_id,) = to.call_ids()
        state = ended(book, call_id)
    assert (state.ended_by, state.disposition) == ("bot", "promise_to_pay")
    assert state.slots["account_check"].value == "4417"
    assert np.any(np.abs(heard[-8000:].astype(int)) > 300), "the goodbye was cut off"


@needs_baresip
@pytest.mark.parametrize("dialect", ["asterisk", "twilio"])
def test_speech_over_the_greeting_silences_it(
    gateway: Server, book: Book, greeting: Pcm16, tmp_path: Path, dialect: str
) -> None:
    with bridge(media(gateway), tmp_path, "--dialect", dialect) as to:
        with Baresip(tmp_path / "phone") as phone:
            phone.dial(to.uri)
            phone.until(lambda: np.any(np.abs(phone.heard.astype(int)) > 300), "the first words")
            phone.speak(recording("03-when-is-it-due.wav"))
            (call_id,) = to.call_ids()
            phone.until(lambda: book.state(call_id).history, "a turn")
            phone.listen()
            heard = phone.heard
            phone.hang_up()
        state = ended(book, call_id)
    (turn,) = state.history
    assert turn.said == "when is it due"
    assert turn.heard is not None, "the caller heard only part of the greeting"
    second_half = greeting[len(greeting) // 2 :]
    assert share_heard(heard, second_half) < 0.5, "the rest of the greeting was said all the same"


@needs_baresip
@needs_kamailio
@pytest.mark.parametrize("who_ends", ["caller", "bot"])
def test_all_of_a_call_goes_through_the_proxy_that_brought_it(
    gateway: Server, book: Book, tmp_path: Path, who_ends: str
) -> None:
    with bridge(media(gateway), tmp_path) as to, proxy(to.uri, tmp_path) as between:
        with Baresip(tmp_path / "phone") as phone:
            phone.dial(between.uri)
            phone.listen()
            if who_ends == "caller":
                phone.hold()
                phone.until(lambda: to.has_logged("the caller is now sendonly"), "hold")
                phone.resume()
                phone.until(lambda: to.has_logged("the caller is now sendrecv"), "the end of hold")
                phone.hang_up()
            else:
                phone.speak(recording("06-no-that-is-all.wav"))  # is it you? no
                phone.until(lambda: phone.told("CALL_CLOSED"), "the bot's hang-up")
            (call_id,) = to.call_ids()
            state = ended(book, call_id)
            phone.until(lambda: between.passed("BYE") == 1, "a BYE through the proxy")
    assert state.ended_by == who_ends
    assert between.passed("INVITE") == (3 if who_ends == "caller" else 1)
    assert between.passed("ACK") == between.passed("INVITE")
    assert not between.has_lost()


@needs_sipp
@pytest.mark.skipif(not SIPP_PCAPS.exists(), reason=f"SIPp's recordings of keys are not in {SIPP_PCAPS}")
@pytest.mark.parametrize("dialect", ["native", "twilio"])
def test_four_calls_at_once_of_sipp_each_heard_held_keyed_and_ended(
    gateway: Server, book: Book, tmp_path: Path, dialect: str
) -> None:
    mulaw = AudioFormat(encoding=Encoding.MULAW)
    voice = silence(mulaw, 3 * 8000) + encode(mulaw, recording("01-yes-speaking.wav")) + silence(mulaw, 4 * 8000)
    (tmp_path / "voice.ul").write_bytes(voice)
    scenario = SCENARIO.read_text()  # SIPp fills in no -key where it names files
    for key, path in (("four", SIPP_PCAPS / "dtmf_2833_4.pcap"), ("pound", SIPP_PCAPS / "dtmf_2833_pound.pcap")):
        scenario = scenario.replace(f"[{key}]", str(path))
    (tmp_path / "calls.xml").write_text(scenario.replace("[voice]", "voice.ul"))
    with bridge(media(gateway), tmp_path, "--dialect", dialect) as to:
        done = subprocess.run(
            [
                *("sipp", to.uri.rpartition("@")[2], "-sf", "calls.xml", "-s", "bot"),
                *("-m", "4", "-l", "4", "-r", "4", "-timeout", "90s", "-timeout_error", "-nostdin"),
                *("-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(baresip.free_port())),
                "-trace_err",
            ],
            cwd=tmp_path,
            env={**os.environ, "TERM": "dumb"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        errors = "".join(path.read_text() for path in tmp_path.glob("*errors.log"))
        assert done.returncode == 0, errors or done.stdout[-3000:]
        states = [ended(book, call_id) for call_id in to.call_ids()]
    assert [[turn.said for turn in state.history] for state in states] == [["yes speaking", "4"]] * 4
    assert {state.ended_by for state in states} == {"caller"}
