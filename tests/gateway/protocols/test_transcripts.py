"""The transcripts in docs/transcripts are of this code: every peer's text in them is understood as it was then."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.calls.dialects import DIALECTS
from gateway.protocols.seam import CallStart, MessageIgnored, PeerFault
from gateway.protocols.vosk import VoskProtocol
from tests.gateway.protocols.record import RECORDED

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parents[3] / "docs" / "transcripts"


def texts(name: str, who: str) -> list[str]:
    """The texts that one side sent."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    found = [re.fullmatch(rf" *\d+  {who}  (.*)", line) for line in lines]
    return [match[1] for match in found if match and not match[1].startswith("[")]


def test_there_is_one_of_every_kind() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {*RECORDED, "vosk"}


@pytest.mark.parametrize("name", RECORDED)
def test_the_peers_side_is_understood(name: str) -> None:
    dialect = next(one for one in DIALECTS if one.name == name.partition("-")[0])
    assert dialect.make is not None
    protocol = dialect.make({})
    texts_of_peer = [text for text in texts(name, "C") if "..." not in text]
    events = [event for text in texts_of_peer for event in protocol.receive(text)]
    assert isinstance(events[0], CallStart)
    ignored = [event for event in events if isinstance(event, MessageIgnored)]
    # Twilio's marks are echoes, and its sequence counts the audio that the transcript sums up.
    assert {event.code for event in ignored} <= ({"sequence_gap", "bad_mark"} if name == "twilio" else set())
    assert not any(isinstance(event, PeerFault) for event in events)


@pytest.mark.parametrize("name", RECORDED)
def test_a_caller_who_spoke_over_the_bot_was_heard(name: str) -> None:
    said = "\n".join(texts(name, "S"))
    assert re.search(r"FLUSH_MEDIA|killAudio|\bclear\b", said)
    assert said.endswith("close 1000")


def test_the_vosk_clients_side_is_understood() -> None:
    protocol = VoskProtocol()
    assert not any(isinstance(event, MessageIgnored) for text in texts("vosk", "C") for event in protocol.receive(text))
