"""RTP packets: read, and numbered for sending.

Source: RFC 3550 section 5.1 and 5.3.1; RFC 3551 section 4.1 for the marker.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["RtpPacket", "RtpSender", "parse_rtp"]

_HEADER: Final = struct.Struct(">BBHII")
_VERSION: Final = 2 << 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpPacket:
    """One packet; `timestamp` in samples, modulo 2**32."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    def encode(self) -> bytes:
        """The datagram."""
        second = self.payload_type | (0x80 if self.marker else 0)
        return _HEADER.pack(_VERSION, second, self.sequence, self.timestamp, self.ssrc) + self.payload


def parse_rtp(data: bytes) -> RtpPacket | None:
    """Read one datagram; None: it is no RTP (RTCP, STUN, noise)."""
    if len(data) < _HEADER.size or data[0] & 0xC0 != _VERSION:
        return None
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    start = _HEADER.size + 4 * (first & 0x0F)
    if first & 0x10:  # a header extension: its length in words stands in its second half
        if len(data) < start + 4:
            return None
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    end = len(data)
    if first & 0x20:  # padding: the last byte counts it
        if not data[-1]:
            return None
        end -= data[-1]
    if start > end:
        return None
    return RtpPacket(
        payload_type=second & 0x7F,
        marker=bool(second & 0x80),
        sequence=sequence,
        timestamp=timestamp,
        ssrc=ssrc,
        payload=bytes(data[start:end]),
    )


class RtpSender:
    """Numbers one stream of ours. Time goes on in silence too, which `skip` stands for."""

    __slots__ = ("_marker", "_sequence", "_ssrc", "_timestamp")

    def __init__(self, *, ssrc: int, sequence: int, timestamp: int) -> None:
        """The three are to be random (section 5.1)."""
        self._ssrc = ssrc
        self._sequence = sequence & 0xFFFF
        self._timestamp = timestamp & 0xFFFFFFFF
        self._marker = True

    def packet(self, payload_type: int, payload: bytes, samples: int) -> bytes:
        """The next datagram; the first after silence carries the marker."""
        packet = RtpPacket(
            payload_type=payload_type,
            marker=self._marker,
            sequence=self._sequence,
            timestamp=self._timestamp,
            ssrc=self._ssrc,
            payload=payload,
        )
        self._marker = False
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + samples) & 0xFFFFFFFF
        return packet.encode()

    def skip(self, samples: int) -> None:
        """Say nothing for so long."""
        self._marker = True
        self._timestamp = (self._timestamp + samples) & 0xFFFFFFFF
