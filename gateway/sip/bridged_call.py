"""One call of the bridge, from its INVITE to its end: a task that waits, and callbacks in between.

    connecting --gateway says 101--> answered --ACK--> talking --any of the below--> over
    connecting --gateway refuses | no codec | no port--> refused (503, 488, 503)

    the caller's BYE or CANCEL   -> the dialect's stop, close
    the bot's hang-up, or close  -> what is being played has 200 ms for the phone's own buffer, then BYE
    no audio for `rtp_timeout_s` -> the dialect's stop, close, BYE

Audio for the gateway waits in a queue of ten seconds; a gateway that does not read loses the newest.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from audio.formats import AudioFormat
from audio.framing import decode, encode
from gateway.background import stop
from gateway.calls.playout_clock import PlayoutClock
from gateway.logs import call_id_var
from gateway.sip.agent import EndedBy, Invited
from gateway.sip.fields import Address
from gateway.sip.line import CallFacts, DropPlayback, Line, LineOrder, LineOver, PlayAudio, PlayMark
from gateway.sip.lines import DIALECTS
from gateway.sip.media import Media
from gateway.sip.rtp import RtpSender
from gateway.sip.sdp import Agreed, Codec, NoCommonCodecError, SdpError, agree, answer, offer, parse_offer

__all__ = ["BridgedCall", "CallPorts"]

log = logging.getLogger(__name__)

_QUIET: Final = logging.getLogger(f"{__name__}.frames")
_QUIET.setLevel(logging.CRITICAL)  # the library logs frames at debug, and they hold what callers said
_QUEUE_MESSAGES: Final = 500
_PHONE_BUFFER_S: Final = 0.2
_CLOSE_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPorts:
    """What a call may ask of the bridge."""

    ring: Callable[[str], None]
    answer: Callable[[str, bytes], None]
    refuse: Callable[[str, int], None]
    end: Callable[[str], None]
    open_rtp: Callable[[BridgedCall], Awaitable[asyncio.DatagramTransport | None]]


class _RefusedError(Exception):
    """The call is refused with `status`; the message says why, for the log."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class BridgedCall:
    """Implements `gateway.calls.playout_clock.Player`."""

    def __init__(
        self,
        invited: Invited,
        ports: CallPorts,
        clock: PlayoutClock,
        *,
        gateway: str,
        dialect: str,
        bot: str | None,
        token: str | None,
        rtp_timeout_s: float,
        connect_timeout_s: float,
    ) -> None:
        self._invited = invited
        self._key = invited.key
        self._ports = ports
        self._clock = clock
        self._gateway = gateway
        self._make_line = DIALECTS[dialect]
        self._bot = bot
        self._token = token
        self._rtp_timeout_s = rtp_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._call_id = f"sip-{uuid.uuid4()}"
        self._session_id = secrets.randbits(32)
        self._version = 0
        self._line: Line | None = None
        self._media: Media | None = None
        self._rtp: asyncio.DatagramTransport | None = None
        self._early: deque[LineOrder] = deque(maxlen=_QUEUE_MESSAGES)
        """What the bot said before it was known where to: the oldest of too much is lost."""
        self._to_gateway: asyncio.Queue[str | bytes] = asyncio.Queue(_QUEUE_MESSAGES)
        self._over = asyncio.Event()
        self._ended_by = ""
        self._caller_gone = False

    async def run(self) -> None:
        """The whole call; ends with everything let go."""
        call_id_var.set(self._call_id)
        log.info("call from %s", self._invited.source.host)
        try:
            ws = await self._accept()
            if ws is not None:
                async with ws:
                    await self._talk(ws)
                log.info("call over: %s", self._ended_by)
        except _RefusedError as refusal:
            log.warning("call refused with %d: %s", refusal.status, refusal)
            if not self._caller_gone:
                self._ports.refuse(self._key, refusal.status)
        finally:
            self._clock.remove(self)
            if self._rtp is not None:
                self._rtp.close()
            self._ports.end(self._key)

    # What the bridge tells.

    def acknowledged(self, body: bytes) -> None:
        """The caller has our answer; `body` is its own where the offer was ours."""
        try:
            if self._media is None:
                self._open_media(agree(parse_offer(body)))
            elif body:
                agreed = agree(parse_offer(body), keep=self._media.agreed.codec)
                self._media.agree_again(agreed, time.monotonic())
        except SdpError as error:
            self._finish(f"no audio agreed: {error}")
            return
        if self._media is not None:
            self._media.opened = True

    def reoffered(self, body: bytes) -> None:
        """Hold, its end, or a new address; the codec stays."""
        media = self._media
        if media is None:
            self._ports.refuse(self._key, 488)
            return
        if not body:
            self._ports.answer(self._key, self._offer(media.agreed.codec))
            return
        try:
            offered = parse_offer(body)
            agreed = agree(offered, keep=media.agreed.codec)
        except SdpError as error:
            log.info("a new offer cannot be taken: %s", error)
            self._ports.refuse(self._key, 488)
            return
        media.agree_again(agreed, time.monotonic())
        log.info("the caller is now %s", agreed.direction)
        self._version += 1
        host, port = self._rtp_address()
        described = answer(offered, agreed, host=host, port=port, session_id=self._session_id, version=self._version)
        self._ports.answer(self._key, described)

    def pressed(self, digits: str) -> None:
        """Keys, by RTP or by INFO."""
        if self._line is not None:
            for digit in digits:
                self._send(self._line.press(digit))

    def caller_gone(self, ended_by: EndedBy) -> None:
        """The leg is over."""
        self._caller_gone = True
        self._finish(f"by {ended_by}")

    def hang_up(self) -> None:
        """The bridge closes."""
        self._finish("the bridge stops")

    def rtp_received(self, data: bytes, source: Address) -> None:
        """One datagram on the call's audio port."""
        if self._media is not None:
            self.pressed(self._media.receive(data, source, time.monotonic()))

    def playout_tick(self, now: float) -> bool:
        """Every 20 ms: the caller's audio to the gateway, the bot's to the caller."""
        media, line = self._media, self._line
        if media is None or line is None:
            return False
        while media.due(now):
            tick = media.tick(now)
            if tick.packet is not None and self._rtp is not None:
                self._rtp.sendto(tick.packet.data, tick.packet.to)
            self.pressed(tick.digits)
            if tick.heard:
                self._send(line.speak(_converted(media.agreed.codec.audio_format, line.format, tick.heard)))
            for mark in tick.marks:
                self._send(line.played(mark))
            self._send(line.queued(media.queued_ms))
        if media.silent_s(now) > self._rtp_timeout_s:
            self._finish(f"no audio from the caller for {self._rtp_timeout_s:g} s")
        return not self._over.is_set()

    # The call's own way.

    async def _accept(self) -> ClientConnection | None:
        """Agree on audio, connect to the gateway, answer; None: the caller gave up meanwhile.

        Raises:
            _RefusedError: one of the three did not work.
        """
        body = self._invited.body
        try:
            offered = parse_offer(body) if body else None
            agreed = agree(offered) if offered is not None else None
        except NoCommonCodecError as error:
            raise _RefusedError(488, str(error)) from error
        except SdpError as error:
            raise _RefusedError(488, f"its session description: {error}") from error
        self._rtp = await self._ports.open_rtp(self)
        if self._rtp is None:
            raise _RefusedError(503, "every RTP port of the range is taken; give more with --rtp-ports")
        self._ports.ring(self._key)
        facts = CallFacts(
            call_id=self._call_id,
            caller=self._invited.caller,
            dialled=self._invited.dialled,
            format=(agreed.codec if agreed else Codec.PCMU).audio_format,
            bot=self._bot,
            token=self._token,
        )
        self._line = self._make_line(facts)
        ws = await self._connect(self._line)
        if ws is None:
            return None
        self._send(self._line.hello())
        if offered is not None and agreed is not None:
            self._open_media(agreed)
            host, port = self._rtp_address()
            described = answer(
                offered, agreed, host=host, port=port, session_id=self._session_id, version=self._version
            )
        else:
            described = self._offer(None)
        self._ports.answer(self._key, described)
        return ws

    async def _connect(self, line: Line) -> ClientConnection | None:
        """Raises _RefusedError."""
        connecting = asyncio.create_task(self._dial(line))
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({connecting, over}, return_when=asyncio.FIRST_COMPLETED)
            if not over.done():
                return await connecting
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            raise _RefusedError(503, _why_refused(error)) from error
        finally:
            await stop({connecting, over})
        # The caller gave up; the connection may have come about all the same, while it was being called off.
        if not connecting.cancelled() and connecting.exception() is None:
            await connecting.result().close()
        return None

    async def _dial(self, line: Line) -> ClientConnection:
        return await connect(
            line.url(self._gateway),
            subprotocols=[Subprotocol(name) for name in line.subprotocols] or None,
            additional_headers=line.headers(),
            compression=None,
            open_timeout=self._connect_timeout_s,
            close_timeout=_CLOSE_S,
            ping_interval=None,
            logger=_QUIET,
            proxy=None,
        )

    async def _talk(self, ws: ClientConnection) -> None:
        """Until either end has had enough."""
        assert self._line is not None
        reader = asyncio.create_task(self._read(ws, self._line))
        writer = asyncio.create_task(self._write(ws))
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({reader, writer, over}, return_when=asyncio.FIRST_COMPLETED)
            if not self._over.is_set():  # the gateway's end of it
                if writer.done():
                    writer.result()  # a fault of ours goes on from here
                bot_done = reader.done() and reader.result()
                self._ended_by = "by the bot" if bot_done else f"by the gateway's close, {ws.close_code}"
                await asyncio.wait({over}, timeout=_PHONE_BUFFER_S)
                self._ports.end(self._key)
                return
            self._ports.end(self._key)
            self._clock.remove(self)
            for message in self._line.hang_up():
                await asyncio.wait_for(ws.send(message), _CLOSE_S)
        except (ConnectionClosed, TimeoutError):
            pass
        finally:
            await stop({reader, writer, over})

    async def _read(self, ws: ClientConnection, line: Line) -> bool:
        """True: the bot ended the call; False: the connection did."""
        try:
            async for message in ws:
                for order in line.receive(message):
                    if isinstance(order, LineOver):
                        return True
                    self._obey(order, line)
        except ConnectionClosed:
            pass
        return ws.close_code == 1000

    async def _write(self, ws: ClientConnection) -> None:
        try:
            while True:
                await ws.send(await self._to_gateway.get())
        except ConnectionClosed:
            pass

    def _obey(self, order: LineOrder, line: Line) -> None:
        media = self._media
        if media is None:  # the caller's answer to our offer is not here yet
            self._early.append(order)
            return
        match order:
            case PlayAudio():
                media.play(_converted(line.format, media.agreed.codec.audio_format, order.data))
            case PlayMark():
                media.mark(order.name)
            case DropPlayback():
                self._send(line.dropped(media.drop()))

    def _send(self, messages: Iterable[str | bytes]) -> None:
        for message in messages:
            if self._to_gateway.full():
                return
            self._to_gateway.put_nowait(message)

    def _open_media(self, agreed: Agreed) -> None:
        sender = RtpSender(ssrc=secrets.randbits(32), sequence=secrets.randbits(16), timestamp=secrets.randbits(32))
        signalling = self._invited.source.host
        self._media = Media(agreed, signalling_host=signalling, sender=sender, now=time.monotonic())
        self._clock.add(self)
        while self._early and self._line is not None:
            self._obey(self._early.popleft(), self._line)

    def _offer(self, codec: Codec | None) -> bytes:
        """Our own offer; of the one codec where the call has it already."""
        self._version += 1
        host, port = self._rtp_address()
        codecs = tuple(Codec) if codec is None else (codec,)
        return offer(codecs, host=host, port=port, session_id=self._session_id, version=self._version)

    def _rtp_address(self) -> Address:
        assert self._rtp is not None
        return Address(self._invited.local.host, self._rtp.get_extra_info("sockname")[1])

    def _finish(self, ended_by: str) -> None:
        self._ended_by = self._ended_by or ended_by
        self._over.set()


def _converted(source: AudioFormat, target: AudioFormat, audio: bytes) -> bytes:
    """Audio of one encoding in another, both 8 kHz."""
    return audio if source.encoding is target.encoding else encode(target, decode(source, audio))


def _why_refused(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    match status:
        case 401 | 403:
            return f"the gateway wants another token (HTTP {status}): give one with --token"
        case 404:
            return "the gateway has no such path (HTTP 404): look at --gateway and --dialect"
        case 503:
            return "the gateway is full or shutting down (HTTP 503)"
        case int():
            return f"the gateway answered HTTP {status}"
    if isinstance(error, TimeoutError):
        return "the gateway does not answer in time"
    return f"the gateway cannot be reached ({type(error).__name__}); is `voicegate serve` running?"
