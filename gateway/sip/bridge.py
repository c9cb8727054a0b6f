"""The shell: a SIP socket, an RTP socket and a WebSocket connection per call, and what each of them hears passed on.

    INVITE -> connect to the gateway -> its dialect's start -> 200 OK -> ACK -> both talk -> BYE | the bot hangs up

What decides lives elsewhere: `UserAgent` (signalling), `Media` (audio), a `Line` (dialect). A call is one task; the
bridge owns them all. What a call may not do is harm another: a datagram that breaks something of ours is logged and
forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from gateway.background import stop
from gateway.calls.playout_clock import PlayoutClock
from gateway.logs import where
from gateway.sip.agent import Acknowledged, AgentEvent, Invited, Keyed, LegOver, Reoffered, UserAgent
from gateway.sip.bridged_call import BridgedCall, CallPorts
from gateway.sip.fields import Address
from gateway.sip.message import SipError
from gateway.sip.transactions import Datagram

__all__ = ["BridgeError", "BridgeSettings", "SipBridge"]

log = logging.getLogger(__name__)

_FAREWELL_S: Final = 2.0


class BridgeError(SipError):
    """The bridge cannot do what it was told to; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeSettings:
    """What the bridge is told."""

    listen: Address = Address("127.0.0.1", 5060)
    gateway: str = "ws://127.0.0.1:8765"
    """Address of the media port; without a path, the dialect's own."""
    dialect: str = "native"
    bot: str | None = None
    token: str | None = field(default=None, repr=False)
    max_calls: int = 20
    rtp_ports: range = range(40000, 40200)
    rtp_timeout_s: float = 30.0
    """A caller who sends no audio for so long, and is not on hold, is gone."""
    connect_timeout_s: float = 5.0


class SipBridge:
    """Answers calls until closed."""

    def __init__(self, settings: BridgeSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._agent = UserAgent(self._local_of, max_calls=settings.max_calls)
        self._clock = PlayoutClock(self._loop)
        self._calls: dict[str, BridgedCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_rtp = 0
        self._settled = asyncio.Event()
        """Nobody owes us an answer."""
        self._settled.set()

    @property
    def address(self) -> Address:
        """Where it listens; the port it got where 0 was asked for."""
        assert self._transport is not None, "not started"
        return Address(*self._transport.get_extra_info("sockname")[:2])

    @property
    def calls(self) -> int:
        """Calls in progress."""
        return len(self._calls)

    @property
    def malformed(self) -> int:
        """Datagrams that were no SIP."""
        return self._agent.malformed

    async def start(self) -> None:
        """Listen.

        Raises:
            BridgeError: the address cannot be used.
        """
        host, port = self._settings.listen
        try:
            self._transport, _ = await self._loop.create_datagram_endpoint(
                lambda: _Receiver(self._received), local_addr=(host, port)
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise BridgeError(f"cannot listen on {host}:{port}: {reason}; choose another with --listen") from error

    async def aclose(self) -> None:
        """Hang up everywhere, wait a moment for the answers, and let go of the sockets."""
        for call in tuple(self._calls.values()):
            call.hang_up()
        deadline = self._loop.time() + _FAREWELL_S
        while self._tasks and (left := deadline - self._loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        await stop(self._tasks)
        try:
            async with asyncio.timeout_at(deadline):
                await self._settled.wait()
        except TimeoutError:
            log.info("a caller did not answer our goodbye")
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    # What calls ask for (`BridgedCall` knows no more of the bridge than this).

    def ring(self, key: str) -> None:
        """Tell the caller that it rings."""
        self._perform(self._agent.ring(key, time.monotonic()))

    def answer(self, key: str, body: bytes) -> None:
        """Take the call, or the new offer within it."""
        self._perform(self._agent.answer(key, body, time.monotonic()))

    def refuse(self, key: str, status: int) -> None:
        """Refuse the call, or the new offer within it."""
        self._perform(self._agent.refuse(key, status, time.monotonic()))

    def end(self, key: str) -> None:
        """Say goodbye to the caller; nothing where it is gone already."""
        self._perform(self._agent.hang_up(key, time.monotonic()))

    async def open_rtp(self, call: BridgedCall) -> asyncio.DatagramTransport | None:
        """A socket for the call's audio on the next free port of the range; None: all are taken."""
        ports = [port for port in self._settings.rtp_ports if port % 2 == 0]  # odd ones are RTCP's (RFC 3550, 11)
        for step in range(len(ports)):
            port = ports[(self._next_rtp + step) % len(ports)]
            try:
                transport, _ = await self._loop.create_datagram_endpoint(
                    lambda: _Receiver(call.rtp_received), local_addr=(self._settings.listen.host, port)
                )
            except OSError:
                continue
            self._next_rtp = (self._next_rtp + step + 1) % len(ports)
            return transport
        return None

    # From the network.

    def _received(self, data: bytes, source: Address) -> None:
        try:
            self._perform(self._agent.receive(data, source, time.monotonic()))
        except Exception as error:  # one datagram must not harm the calls of others
            log.error("a datagram of %s broke something; it is forgotten: %s", source.host, where(error))

    def _perform(self, events: Iterable[AgentEvent]) -> None:
        for event in events:
            match event:
                case Datagram():
                    if self._transport is not None and not self._transport.is_closing():
                        self._transport.sendto(event.data, event.to)
                case Invited():
                    self._begin(event)
                case Acknowledged() if call := self._calls.get(event.key):
                    call.acknowledged(event.body)
                case Reoffered() if call := self._calls.get(event.key):
                    call.reoffered(event.body)
                case Keyed() if call := self._calls.get(event.key):
                    call.pressed(event.digit)
                case LegOver() if call := self._calls.get(event.key):
                    call.caller_gone(event.ended_by)
        self._arm()

    def _begin(self, invited: Invited) -> None:
        settings = self._settings
        call = BridgedCall(
            invited,
            CallPorts(ring=self.ring, answer=self.answer, refuse=self.refuse, end=self.end, open_rtp=self.open_rtp),
            self._clock,
            gateway=settings.gateway,
            dialect=settings.dialect,
            bot=settings.bot,
            token=settings.token,
            rtp_timeout_s=settings.rtp_timeout_s,
            connect_timeout_s=settings.connect_timeout_s,
        )
        self._calls[invited.key] = call
        task = self._loop.create_task(call.run(), name="sip call")
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(invited.key, done))

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._calls.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a call broke something of ours: %s", where(error))
        self.end(key)  # whatever ended the task, its caller is not left alone

    def _arm(self) -> None:
        """One timer for all that the agent waits for."""
        if self._timer is not None:
            self._timer.cancel()
        if self._agent.idle:
            self._settled.set()
        else:
            self._settled.clear()
        at = self._agent.get_timer()
        self._timer = None if at is None else self._loop.call_later(max(0.0, at - time.monotonic()), self._timed_out)

    def _timed_out(self) -> None:
        self._perform(self._agent.handle_timer(time.monotonic()))

    def _local_of(self, peer: Address) -> Address:
        """Our address as this peer reaches it: where we listen everywhere, the routing table knows."""
        host, port = self.address
        if not ip_address(host).is_unspecified:
            return Address(host, port)
        family = socket.AF_INET6 if ":" in peer.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(peer)  # sends nothing
            return Address(probe.getsockname()[0], port)


class _Receiver(asyncio.DatagramProtocol):
    """Datagrams to a callback."""

    def __init__(self, received: Callable[[bytes, Address], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: Sequence[Any]) -> None:
        self._received(data, Address(addr[0], addr[1]))
