"""One call's audio: RTP of the phone on one side, frames of the call on the other; no socket and no clock.

The shell brings every datagram (`receive`) and asks once per 20 ms (`tick`) what to send and what was heard. Nothing
is played before the caller's ACK (`opened`), and nothing is sent to a caller who does not want to hear (hold), while
what the bot says then passes unheard, as it would at any PBX.

Audio goes to where the caller's comes from (symmetric RTP): behind a router that is not where its description says.
To keep strangers out, packets count only from the hosts that the description or the signalling named, and from one port
at a time; those from the address of the description itself always count.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from audio.framing import silence
from gateway.sip.fields import Address
from gateway.sip.jitter import JitterBuffer
from gateway.sip.playback import Playback
from gateway.sip.rtp import RtpSender, parse_rtp
from gateway.sip.sdp import PTIME_MS, Agreed
from gateway.sip.telephone_event import KeyReader
from gateway.sip.transactions import Datagram

__all__ = ["Media", "MediaTick"]

_FRAME_S: Final = PTIME_MS / 1000
_PLAYBACK_MS: Final = 60_000
_CATCH_UP_S: Final = 0.1
_OTHER_PORT_AFTER_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaTick:
    """20 ms of a call."""

    packet: Datagram | None
    """To the phone."""
    heard: bytes
    """The caller's audio, whole frames, in the agreed codec; empty while packets are late."""
    marks: tuple[str, ...] = ()
    """Reached in what the bot says."""
    digits: str = ""
    """Keys whose last packet was lost."""


class Media:
    """Times are monotonic seconds."""

    def __init__(self, agreed: Agreed, *, signalling_host: str, sender: RtpSender, now: float) -> None:
        self._sender = sender
        self._signalling_host = signalling_host
        self._keys = KeyReader()
        self._ssrc: int | None = None
        self._next_at = now
        self._heard_at = now
        self._latched = False
        self.opened = False
        """The caller has our answer: what the bot says may be played."""
        self.strangers = 0
        """Packets of nobody in this call."""
        self._agree(agreed)
        self._playback = Playback(agreed.codec.audio_format.samples(_PLAYBACK_MS))

    def _agree(self, agreed: Agreed) -> None:
        self.agreed = agreed
        fmt = agreed.codec.audio_format
        self._samples = fmt.samples(PTIME_MS)
        self._quiet = silence(fmt, self._samples)
        self._jitter = JitterBuffer(fmt)
        host = agreed.remote.host if _is_ip(agreed.remote.host) else self._signalling_host
        self._described = self._remote = Address(host, agreed.remote.port)
        self._hosts: Collection[str] = {host, self._signalling_host}

    def agree_again(self, agreed: Agreed, now: float) -> None:
        """A re-INVITE: hold, its end, or another address. What is being played stays."""
        self._agree(agreed)
        self._latched = False
        self._heard_at = now

    def receive(self, data: bytes, source: Address, now: float) -> str:
        """One datagram from the network; the keys that are complete with it."""
        packet = parse_rtp(data)
        agreed = self.agreed
        if packet is None or packet.payload_type not in (agreed.payload_type, agreed.event_payload):
            return ""
        is_key = packet.payload_type == agreed.event_payload
        if not self._is_caller(source, now, moves=not is_key):
            self.strangers += 1
            return ""
        self._heard_at = now
        if packet.ssrc != self._ssrc:  # another stream: its timestamps say nothing about ours
            self._ssrc = packet.ssrc
            self._jitter = JitterBuffer(agreed.codec.audio_format)
        if is_key:
            return self._keys.push(packet.timestamp, packet.payload, now)
        if agreed.caller_sends:
            self._jitter.push(packet.timestamp, packet.payload)
        return ""

    def due(self, now: float) -> bool:
        """Whether it is time for a `tick`; what was missed for long is not made up for."""
        if now - self._next_at > _CATCH_UP_S:
            self._next_at = now
        return now >= self._next_at

    def tick(self, now: float) -> MediaTick:
        """The next 20 ms, in both directions."""
        self._next_at += _FRAME_S
        heard, digits = self._jitter.pull(), self._keys.overdue(now)
        if not self.opened:
            return MediaTick(packet=None, heard=heard, digits=digits)
        audio, marks = self._playback.take(self._samples)
        packet: Datagram | None = None
        if self.agreed.caller_hears:
            payload = audio + self._quiet[len(audio) :]
            packet = Datagram(
                self._sender.packet(self.agreed.payload_type, payload, self._samples),
                self._remote,
            )
        else:
            self._sender.skip(self._samples)
        return MediaTick(packet=packet, heard=heard, marks=tuple(marks), digits=digits)

    def play(self, audio: bytes) -> None:
        """Queue what the bot says, in the agreed codec."""
        self._playback.put(audio)

    def mark(self, name: str) -> None:
        """Queue a mark behind it."""
        self._playback.mark(name)

    def drop(self) -> list[str]:
        """Stop the bot's words at once; the marks that will not be reached."""
        return self._playback.drop()

    @property
    def queued_ms(self) -> int:
        """How much of the bot's words waits."""
        return self._playback.queued_samples // (self._samples // PTIME_MS)

    def silent_s(self, now: float) -> float:
        """How long nothing has come from a caller who is to send; 0 on hold."""
        return now - self._heard_at if self.agreed.caller_sends else 0.0

    def _is_caller(self, source: Address, now: float, *, moves: bool) -> bool:
        """Whether a packet may be the caller's; where its audio is from (`moves`) is where we send to from then on."""
        if source != self._described:  # the description's own address needs no guess
            if source.host not in self._hosts:
                return False
            if self._latched and source != self._remote and now - self._heard_at < _OTHER_PORT_AFTER_S:
                return False
        if moves:
            self._remote, self._latched = source, True
        return True


def _is_ip(host: str) -> bool:
    """Whether a host is an address: a name would be looked up with every packet, while all calls wait."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
