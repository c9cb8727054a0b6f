"""`/v1/recordings`: what was recorded, its sound and its events, for tokens with the scope `recordings`."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from gateway.access.auth import Scope
from gateway.http.errors import ApiError, Problem
from gateway.monitoring.admission import admit
from gateway.monitoring.archive import Archive, ArchivedCall
from gateway.monitoring.audit import AuditError, AuditLog

__all__ = ["recordings_router"]

_Name = Annotated[str, Path(max_length=100, description="As `GET /v1/recordings` tells it.")]


class RecordedCall(BaseModel):
    """One recording."""

    name: str
    call_id: str
    bot: str
    bot_version: str
    language: str
    started_at: float
    sample_rate: int
    consent: Annotated[str, Field(description="`given` in the call's metadata, or `announced` by the bot.")]
    duration_s: float
    expires_at: float

    @classmethod
    def of(cls, archived: ArchivedCall) -> RecordedCall:
        """As the archive has it."""
        info = asdict(archived.info)
        del info["v"]
        duration_s = max(0, archived.sound_bytes - 44) / (4 * archived.info.sample_rate)
        return cls(**info, duration_s=round(duration_s, 3), expires_at=round(archived.expires_at, 3))


class RecordedCalls(BaseModel):
    """The newest first."""

    recordings: list[RecordedCall]


class Timeline(BaseModel):
    """A recording and what happened in it; an event's `time` less `started_at` is its place in the sound."""

    recording: RecordedCall
    events: list[dict[str, Any]]


def recordings_router(archive: Archive, audit: AuditLog) -> APIRouter:
    """The routes."""
    router = APIRouter(
        prefix="/v1/recordings",
        tags=["recordings"],
        responses={404: {"model": Problem, "description": "There is no such recording, or it has expired."}},
    )

    async def noted(request: Request, scope: Scope, act: str, name: str) -> ArchivedCall:
        """The recording, once it is noted who wants it."""
        visitor = admit(request, scope)
        archived = await run_in_threadpool(archive.get, name)
        if archived is None:
            raise _unknown()
        try:
            await audit.write(visitor.who, act, call_id=archived.info.call_id, detail=name)
        except AuditError as error:
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", str(error)) from None
        return archived

    @router.get("", summary="What was recorded")
    async def recordings(
        request: Request,
        call: Annotated[str, Query(max_length=256, description="Of this call alone.")] = "",
        bot: Annotated[str, Query(max_length=200, description="Of this bot alone.")] = "",
        count: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> RecordedCalls:
        admit(request, Scope.RECORDINGS)
        found = await run_in_threadpool(archive.find, call_id=call, bot=bot, count=count)
        return RecordedCalls(recordings=[RecordedCall.of(one) for one in found])

    @router.get("/{name}/sound", summary="Both sides as a stereo WAV: the caller left", response_class=FileResponse)
    async def sound(request: Request, name: _Name) -> FileResponse:
        archived = await noted(request, Scope.RECORDINGS, "recording", name)
        path = archive.sound(archived.info.name)
        if path is None:  # its time was over meanwhile
            raise _unknown()
        return FileResponse(path, media_type="audio/wav", filename=f"{name}.wav")

    @router.get("/{name}/timeline", summary="What happened in it, redacted")
    async def timeline(request: Request, name: _Name) -> Timeline:
        archived = await noted(request, Scope.RECORDINGS, "timeline", name)
        events = await run_in_threadpool(archive.events, name)
        return Timeline(recording=RecordedCall.of(archived), events=events or [])

    @router.delete("/{name}", summary="Erase it before its time", status_code=HTTPStatus.NO_CONTENT)
    async def erase(request: Request, name: _Name) -> None:
        await noted(request, Scope.ADMIN, "erase_recording", name)
        await run_in_threadpool(archive.erase, name)

    return router


def _unknown() -> ApiError:
    return ApiError(HTTPStatus.NOT_FOUND, "unknown_recording", "there is no such recording, or it has expired")
