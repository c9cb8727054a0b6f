"""Ending and transferring calls at a carrier, where closing the socket does neither.

A carrier's stream is a guest in its call: when it closes, the carrier goes on with its own script. What the bot
decided is therefore asked for over the carrier's REST API, before the socket is closed.

    CarrierError    a request that was not carried out; the call goes the way of the carrier's script
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Final, Protocol
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from gateway.outside.straight_opener import straight_opener
from gateway.protocols.seam import CallStart, EndCall, TransferCall
from gateway.settings import TwilioSettings

__all__ = ["CallControl", "CarrierError", "TwilioCalls", "transfer_twiml"]

log = logging.getLogger(__name__)

_CALL_SID: Final = re.compile(r"CA[0-9a-fA-F]{32}")
_MAX_TARGET_CHARS: Final = 255


class CarrierError(Exception):
    """The carrier did not do it; the message says why, without secrets."""


class CallControl(Protocol):
    """What a carrier does to a call when the bot is done with it."""

    async def carry_out(self, start: CallStart, order: EndCall | TransferCall) -> None:
        """End or transfer the call that `start` began.

        Raises:
            CarrierError: not done, or not within the time that the settings allow.
        """
        ...


class TwilioCalls:
    """Twilio's call resource: POST /2010-04-01/Accounts/{account}/Calls/{call}.json.

    Source: www.twilio.com/docs/voice/api/call-resource#update-a-call-resource.
    """

    def __init__(self, settings: TwilioSettings) -> None:
        """`settings` must have account and token."""
        assert settings.account_sid is not None and settings.auth_token is not None
        self._account = settings.account_sid
        secret = f"{settings.account_sid}:{settings.auth_token.get_secret_value()}"
        self._authorization = f"Basic {base64.b64encode(secret.encode()).decode()}"
        self._api_url = settings.api_url.rstrip("/")
        self._timeout_s = settings.timeout_s
        self._opener = straight_opener()

    async def carry_out(self, start: CallStart, order: EndCall | TransferCall) -> None:
        """See `CallControl.carry_out`."""
        # The id becomes part of an address: nothing but an id may.
        if start.call_id is None or not _CALL_SID.fullmatch(start.call_id):
            raise CarrierError("the stream named no call of Twilio's (callSid CA...), so it cannot be ended there")
        if isinstance(order, EndCall):
            fields = {"Status": "completed"}
        else:
            fields = {"Twiml": transfer_twiml(order.target)}
        url = f"{self._api_url}/2010-04-01/Accounts/{self._account}/Calls/{start.call_id}.json"
        try:
            async with asyncio.timeout(self._timeout_s):
                # The thread outlives a slow answer by its own timeout at most.
                await asyncio.to_thread(self._post, url, urlencode(fields).encode())
        except TimeoutError:
            raise CarrierError(f"Twilio gave no answer within {self._timeout_s:g} s") from None

    def _post(self, url: str, body: bytes) -> None:
        request = urllib.request.Request(url, body, {"Authorization": self._authorization}, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s):
                pass  # 200 says that it is done; what the call looks like now is of no interest
        except urllib.error.HTTPError as exc:
            exc.close()
            raise CarrierError(f"Twilio answered {exc.code}; see its debugger for this call") from None
        except TimeoutError:
            raise CarrierError(f"Twilio gave no answer within {self._timeout_s:g} s") from None
        except (OSError, HTTPException) as exc:
            raise CarrierError(f"Twilio cannot be reached ({type(exc).__name__}); check twilio.api_url") from None


def transfer_twiml(target: str) -> str:
    """TwiML that connects the caller to a number, or to a SIP address (`sip:desk@pbx.example.com`)."""
    shown = escape(target[:_MAX_TARGET_CHARS])
    dial = f"<Sip>{shown}</Sip>" if target.startswith(("sip:", "sips:")) else shown
    return f"<Response><Dial>{dial}</Dial></Response>"
