"""The control plane's routes for those who answer for the calls; docs/monitoring.md has messages and examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, WebSocket
from pydantic import BaseModel, ConfigDict, Field

from gateway.access.auth import Scope
from gateway.http.errors import ApiError, Problem
from gateway.monitoring.admission import Visitor, admit, admit_socket
from gateway.monitoring.audit import AuditError, AuditLog
from gateway.monitoring.hub import HubError, MonitorHub
from gateway.monitoring.schema import event_schema
from gateway.monitoring.sockets import CallSocket, EventSocket
from gateway.monitoring.wire import Act, OrderKind

__all__ = ["monitor_router"]

_STATUS: Final = {"bad_text": HTTPStatus.UNPROCESSABLE_ENTITY}
_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Problem, "description": "No token, or none that is good here."},
    403: {"model": Problem, "description": "A token without the scope; or a page of another site."},
    503: {"model": Problem, "description": "Redis or a worker does not answer."},
}
_OF_A_CALL: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "No such call is in progress."},
    409: {"model": Problem, "description": "It cannot be done to the call now."},
}

_Raw = Annotated[bool, Query(description="Without redaction: needs the scope `monitor:raw`, and is audited.")]

_FromWhom = Annotated[
    str | None, Query(alias="from", description="The supervisor who has it, where that is not who asks.")
]


class LiveCalls(BaseModel):
    """The calls in progress, each as the event `call_present`."""

    calls: list[dict[str, Any]]
    workers: Annotated[int, Field(description="That were asked.")]
    complete: Annotated[bool, Field(description="All of them answered.")]


class WhisperBody(BaseModel):
    """What the bot is to say next."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[str, Field(min_length=1, max_length=500)]


class Done(BaseModel):
    """It was done."""

    call_id: str
    act: Act


class AuditLine(BaseModel):
    """One line of the audit."""

    time: float
    who: str
    act: str
    call_id: str
    detail: str


class AuditLines(BaseModel):
    """The newest first."""

    entries: list[AuditLine]


def monitor_router(hub: MonitorHub, audit: AuditLog, *, on_voice_lost: Callable[[], object]) -> APIRouter:
    """Watching calls and acting on them. `on_voice_lost`: a piece of a supervisor's voice could not be passed on."""
    router = APIRouter(prefix="/v1", tags=["monitoring"], responses=_PROBLEMS)

    async def seen(request: Request, call_id: str, raw: bool) -> LiveCalls:
        visitor = admit(request, Scope.MONITOR_RAW if raw else Scope.MONITOR)
        try:
            if raw:
                await audit.write(visitor.who, "raw_calls", call_id=call_id)
            listed = await hub.calls(call_id=call_id, raw=raw)
        except (AuditError, HubError) as error:
            raise _unavailable(error) from None
        calls = [json.loads(line) for line in listed.lines]
        return LiveCalls(calls=calls, workers=listed.workers, complete=listed.complete)

    async def done(request: Request, call_id: str, act: Act, *, text: str = "", from_whom: str | None = None) -> Done:
        visitor = admit(request, Scope.SUPERVISE)
        await _act(hub, audit, visitor, call_id, act, text=text, from_whom=from_whom)
        return Done(call_id=call_id, act=act)

    @router.get("/calls", summary="The calls in progress, of all workers on all hosts")
    async def calls(request: Request, raw: _Raw = False) -> LiveCalls:
        return await seen(request, "", raw)

    @router.get("/calls/{call_id}", summary="Where one call stands, with its turns", responses=_OF_A_CALL)
    async def call(request: Request, call_id: str, raw: _Raw = False) -> dict[str, Any]:
        found = await seen(request, call_id, raw)
        if not found.calls:
            raise _no_such_call(call_id)
        return found.calls[0]

    @router.post("/calls/{call_id}/whisper", summary="Have the bot say something next", responses=_OF_A_CALL)
    async def whisper(request: Request, call_id: str, body: WhisperBody) -> Done:
        return await done(request, call_id, Act.WHISPER, text=body.text)

    @router.post("/calls/{call_id}/hang-up", summary="End the call", responses=_OF_A_CALL)
    async def hang_up(request: Request, call_id: str) -> Done:
        return await done(request, call_id, Act.HANG_UP)

    @router.post("/calls/{call_id}/hand-back", summary="Give the bot a call that was taken over", responses=_OF_A_CALL)
    async def hand_back(request: Request, call_id: str, from_whom: _FromWhom = None) -> Done:
        return await done(request, call_id, Act.HAND_BACK, from_whom=from_whom)

    @router.get("/monitor/schema", summary="The events, as JSON Schema")
    async def schema(request: Request) -> dict[str, Any]:
        admit(request, Scope.MONITOR)
        return event_schema()

    @router.get("/audit", summary="Who did what to whose call, and who saw it unredacted")
    async def audited(
        request: Request, count: Annotated[int, Query(ge=1, le=1000, description="How many.")] = 100
    ) -> AuditLines:
        admit(request, Scope.ADMIN)
        try:
            entries = await audit.last(count)
        except AuditError as error:
            raise _unavailable(error) from None
        return AuditLines(entries=[AuditLine(**asdict(entry)) for entry in entries])

    @router.websocket("/monitor")
    async def monitor(socket: WebSocket, call: str = "", types: str = "", raw: bool = False) -> None:
        visitor = await admit_socket(socket, Scope.MONITOR_RAW if raw else Scope.MONITOR)
        if visitor is None:
            return
        await socket.accept()
        if raw:
            try:
                await audit.write(visitor.who, "raw_events", call_id=call)
            except AuditError:
                await socket.close(1013)
                return
        wanted = frozenset(filter(None, types.split(",")))
        await EventSocket(socket, hub, visitor, call_id=call, types=wanted, raw=raw).serve()

    @router.websocket("/calls/{call_id}/audio")
    async def audio(socket: WebSocket, call_id: str) -> None:
        visitor = await admit_socket(socket, Scope.MONITOR)
        if visitor is None:
            return
        await socket.accept()
        await CallSocket(socket, hub, audit, visitor, call_id, on_voice_lost=on_voice_lost).serve()

    return router


async def _act(
    hub: MonitorHub, audit: AuditLog, visitor: Visitor, call_id: str, act: Act, *, text: str, from_whom: str | None
) -> None:
    """Have a call's worker do something, once it is noted. A call may be handed back `from_whom`, None: from who asks,
    with whichever connection.

    Raises:
        ApiError: it was not done.
    """
    detail = f"{len(text)} characters" if text else f"from {from_whom}" if from_whom else ""
    try:
        await audit.write(visitor.who, act, call_id=call_id, detail=detail)
        answer = await hub.order(
            OrderKind.ACT,
            call_id,
            act=act,
            by=visitor.who,
            session=visitor.session,
            from_whom=visitor.who if from_whom is None else from_whom,
            text=text,
        )
    except (AuditError, HubError) as error:
        raise _unavailable(error) from None
    if answer is None:
        raise _no_such_call(call_id)
    if answer.fault is not None:
        code, message = answer.fault
        raise ApiError(_STATUS.get(code, HTTPStatus.CONFLICT), code, message)


def _no_such_call(call_id: str) -> ApiError:
    return ApiError(
        HTTPStatus.NOT_FOUND, "unknown_call", f"no call {call_id[:128]!r} is in progress; see GET /v1/calls"
    )


def _unavailable(error: Exception) -> ApiError:
    headers = {"Retry-After": "1"}
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", f"{error}; try again", headers=headers)
