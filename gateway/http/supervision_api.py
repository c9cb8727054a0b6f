"""`/v1/processes`, `/v1/workers`, `/v1/reload`: a gateway's processes seen, drained and exchanged, for tokens with the
scope `admin`. What is asked here `serve` does; the control plane only passes it on, audited.

A command that is refused has changed nothing. One that is accepted (202) goes on by itself: the list tells how far.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.access.auth import Scope
from gateway.http.errors import ApiError, Problem
from gateway.monitoring.admission import admit
from gateway.monitoring.audit import AuditError, AuditLog
from gateway.processes.lifeline import Lifeline, SupervisionError

__all__ = ["Processes", "supervision_router"]

_STATUS: Final = {
    "unknown_worker": HTTPStatus.NOT_FOUND,
    "unusable": HTTPStatus.UNPROCESSABLE_ENTITY,
    "conflict": HTTPStatus.CONFLICT,
    "no_answer": HTTPStatus.BAD_GATEWAY,
}
_MAX_DEADLINE_S: Final = 86_400.0

_Index = Annotated[int, Path(ge=0, le=255, description="The worker's number, from 0.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DrainBody(_Body):
    """Of drain."""

    deadline_s: Annotated[
        float | None,
        Field(
            ge=0, le=_MAX_DEADLINE_S, description="Calls that still go on then are closed; null: they end themselves."
        ),
    ] = None
    keep_down: Annotated[bool, Field(description="Start no worker in its place.")] = False


class ReloadBody(_Body):
    """Of reload."""

    everything: Annotated[bool, Field(description="Exchange every process, whatever has changed.")] = False


class OneProcess(BaseModel):
    """One process. A place that is being exchanged has two, one that is empty one without a pid."""

    name: str
    state: str
    pid: int
    calls: int
    up_s: float
    generation: Annotated[int, Field(description="1 has the settings of the start; each reload makes another.")]
    deaths: Annotated[int, Field(description="In this place, since `serve` began.")]
    died_of: str
    again_in_s: float


class Reload(BaseModel):
    """What came of the last reload."""

    state: str
    step: Annotated[str, Field(description="What is being done; of a failed one, why.")]
    changed: list[str]
    kept: Annotated[list[str], Field(description="Settings that cannot change while the gateway runs, and why.")]


class Processes(BaseModel):
    """What `serve` says."""

    processes: list[OneProcess]
    reload: Reload


def supervision_router(line: Lifeline, audit: AuditLog) -> APIRouter:
    """The routes; what they ask goes over `line`."""
    router = APIRouter(
        prefix="/v1",
        tags=["processes"],
        responses={status.value: {"model": Problem} for status in (*_STATUS.values(), HTTPStatus.SERVICE_UNAVAILABLE)},
    )

    async def ask(what: str, **fields: Any) -> Processes:
        try:
            return Processes.model_validate(await line.ask(what, **fields))
        except SupervisionError as exc:
            raise ApiError(_STATUS[exc.code], exc.code, str(exc)) from None

    async def act(request: Request, what: str, detail: str, **fields: Any) -> Processes:
        visitor = admit(request, Scope.ADMIN)
        try:
            await audit.write(visitor.who, what, detail=detail)
        except AuditError as exc:
            message = f"{exc}; try again"
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message, headers={"Retry-After": "1"}
            ) from None
        return await ask(what, **fields)

    @router.get("/processes", summary="The gateway's processes, and what came of the last reload")
    async def processes(request: Request) -> Processes:
        admit(request, Scope.ADMIN)
        return await ask("processes")

    @router.post(
        "/workers/{index}/drain", status_code=202, summary="Have a worker take no new calls and end with its last"
    )
    async def drain(request: Request, index: _Index, body: DrainBody) -> Processes:
        detail = f"worker {index}{', keep down' if body.keep_down else ''}"
        return await act(request, "drain", detail, worker=index, deadline_s=body.deadline_s, keep_down=body.keep_down)

    @router.post("/workers/{index}/up", status_code=202, summary="Start a worker that was kept down")
    async def bring_up(request: Request, index: _Index) -> Processes:
        return await act(request, "up", f"worker {index}", worker=index)

    @router.post("/reload", status_code=202, summary="Read settings and bots again, without dropping a call")
    async def reload(request: Request, body: ReloadBody) -> Processes:
        detail = "everything" if body.everything else ""
        return await act(request, "reload", detail, everything=body.everything)

    return router
