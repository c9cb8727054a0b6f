"""Damaged datagrams against everything that reads what a caller sends, for as long as wanted.

    python -m tests.gateway.sip.fuzz --seconds 3600

Real messages with bytes lost, put in, changed, and pieces of other messages in between. Nothing may raise, no more
legs may be open than allowed, and when the noise is over every leg and every timer must come to its end.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from gateway.sip.agent import Invited, Reoffered
from gateway.sip.sdp import SdpError, agree, answer, parse_offer
from tests.gateway.sip.test_agent import Line, request
from tests.gateway.sip.test_media import PHONE, made, packet
from tests.gateway.sip.test_sdp import BARESIP, MANY

__all__ = ["fuzz"]

MESSAGES = (
    request(),
    request(body=BARESIP),
    request("ACK", tag="t1", body=b""),
    request("ACK", branch="z9hG4bK2", tag="t1", body=b""),
    request("CANCEL", body=b""),
    request("BYE", branch="z9hG4bK3", tag="t1", sequence=2, body=b""),
    request(branch="z9hG4bK5", tag="t1", sequence=3),
    request(
        "INFO", branch="z9hG4bK6", tag="t1", sequence=4, body=b"Signal=4", extra="Content-Type: application/dtmf\r\n"
    ),
    b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bKt3\r\nCSeq: 1 BYE\r\n\r\n",
)
TOKENS = (b"\r\n", b";tag=t1", b'"', b"<", b">", b",", b"\0", b"9" * 20, b";branch=z9hG4bK1", b"\xff\xfe", b"%00")


def damaged(rng: random.Random, data: bytes) -> bytes:
    """`data` with up to five wounds."""
    wounded = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(wounded) + 1)
        match rng.randrange(5):
            case 0:
                del wounded[at : at + rng.randrange(30)]
            case 1:
                wounded[at:at] = rng.randbytes(rng.randrange(12))
            case 2:
                wounded[at : at + 1] = rng.randbytes(1)
            case 3:
                other = rng.choice(MESSAGES)
                begin = rng.randrange(len(other))
                wounded[at:at] = other[begin : begin + rng.randrange(80)]
            case _:
                wounded[at:at] = rng.choice(TOKENS)
    return bytes(wounded)


def described(body: bytes) -> bool:
    """Read a description and answer it; whether it could be used."""
    try:
        offered = parse_offer(body)
        answer(offered, agree(offered), host="10.0.0.1", port=4, session_id=1, version=1)
    except SdpError:
        return False
    return True


def fuzz(rng: random.Random, inputs: int) -> None:
    """One line and one call's audio under `inputs` damaged datagrams of each kind.

    Raises:
        Exception: whatever broke.
    """
    line, media = Line(), made()
    for number in range(inputs):
        for event in line.receive(damaged(rng, rng.choice(MESSAGES))):
            if isinstance(event, Invited | Reoffered):
                if described(event.body):
                    line.agent.answer(event.key, b"v=0\r\n", line.now)
                else:
                    line.agent.refuse(event.key, 488, line.now)
        if rng.random() < 0.05:
            line.wait(rng.random() * 40)
        described(damaged(rng, rng.choice((BARESIP, MANY))))
        now = number * 0.01
        media.receive(damaged(rng, packet(rng.randrange(2**32), payload_type=rng.choice((0, 101)))), PHONE, now)
        assert len(media.tick(now).heard) % 160 == 0
        assert line.agent.legs <= 2
    line.wait(200)
    for key in line.open_keys():
        line.agent.hang_up(key, line.now)
    line.wait(200)
    assert line.agent.legs == 0 and line.agent.get_timer() is None


def main() -> None:
    """Until the time is over, or something breaks: then the seed is told."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    end, seed = time.monotonic() + told.seconds, told.seed
    while time.monotonic() < end:
        try:
            fuzz(random.Random(seed), 200)
        except Exception:
            sys.stderr.write(f"broken by --seed {seed}\n")
            raise
        seed += 1
    sys.stdout.write(f"{(seed - told.seed) * 200} damaged datagrams each of SIP, SDP and RTP: nothing broke\n")


if __name__ == "__main__":
    main()
