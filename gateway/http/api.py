"""`POST /v1/intent` and `POST /v1/chat`: understanding and dialogues for an operator's own programs."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter, Depends, Response
from fastapi.security import HTTPBearer

from dialogue.step import MetadataError
from dialogue.store import RoundError
from dialogue.turns import DialogueError
from gateway.calls.bot_choice import UnknownBotError
from gateway.http.bodies import ChatAnswer, ChatRequest, IntentAnswer, IntentRequest
from gateway.http.errors import ApiError, Problem
from gateway.http.guard import GuardedRoute
from gateway.http.text_dialogues import BotChangedError, TextDialogues
from gateway.inference.seam import InferenceError
from gateway.logs import call_id_var

__all__ = ["text_router"]

log = logging.getLogger(__name__)

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Problem, "description": "No token, or none that is good here."},
    403: {"model": Problem, "description": "A token without the scope `chat`; or no authentication, and not loopback."},
    413: {"model": Problem, "description": "The body is too large."},
    422: {"model": Problem, "description": "The body is at fault; all of its faults are told."},
    429: {"model": Problem, "description": "Too many requests of this identity; see Retry-After."},
    503: {"model": Problem, "description": "Too many requests, or a part is away; see Retry-After. Retrying is safe."},
    504: {"model": Problem, "description": "No answer in time. Retrying is safe."},
}
_OVER: Final[dict[int | str, dict[str, Any]]] = {
    409: {"model": Problem, "description": "The message is over, or the bot has changed."}
}


def text_router(dialogues: TextDialogues, *, text_chars: int) -> APIRouter:
    """The two routes.

    Args:
        text_chars: longest text or query.
    """
    # The route class checks tokens; this only has the API page ask for one.
    shown = Depends(HTTPBearer(auto_error=False, description="`voicegate token --scope chat`, or your provider's."))
    router = APIRouter(prefix="/v1", tags=["text"], route_class=GuardedRoute, dependencies=[shown])

    @router.post("/intent", summary="What a text means", responses=_PROBLEMS, response_model=IntentAnswer)
    async def intent(request: IntentRequest) -> Response:
        """Intent and slots of one caller turn, by the bot's model.

        The same `call_id` and `round_id` again get the kept answer, whatever the text: no model is asked.
        """
        call_id_var.set(request.call_id)
        _check_length("text", request.text, text_chars)
        return await _answered(dialogues.intent(request))

    @router.post("/chat", summary="One message to a bot", responses=_PROBLEMS | _OVER, response_model=ChatAnswer)
    async def chat(request: ChatRequest) -> Response:
        """The bot's answer to one message, by the same dialogue that its calls have.

        The same `uid` and `seq` again get the kept answer, and nothing changes. Numbers may leave gaps; one behind the
        last, whose answer is not kept, is refused. Begin with an empty `query` to get the greeting.
        """
        call_id_var.set(request.uid)
        _check_length("query", request.query, text_chars)
        return await _answered(dialogues.chat(request))

    return router


def _check_length(key: str, text: str, text_chars: int) -> None:
    if len(text) > text_chars:
        message = f"{key}: has {len(text)} characters and may have {text_chars}; send one turn at a time"
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "too_long", message)


async def _answered(answer: Awaitable[str]) -> Response:
    """The answer, or the error that its failure is for a peer."""
    try:
        return Response(await answer, media_type="application/json")
    except UnknownBotError as exc:
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "unknown_bot", str(exc)) from None
    except MetadataError as exc:
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_metadata", str(exc)) from None
    except RoundError as exc:
        raise ApiError(HTTPStatus.CONFLICT, "old_seq", str(exc)) from None
    except BotChangedError as exc:
        raise ApiError(HTTPStatus.CONFLICT, "bot_changed", str(exc)) from None
    except (InferenceError, DialogueError) as exc:
        log.error("a request failed: %s: %s", type(exc).__name__, exc)
        message = "models or store do not answer; the same request again is safe"
        raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message, headers={"Retry-After": "1"}) from None
