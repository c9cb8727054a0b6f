"""`/v1/figures` and `/v1/outcomes`: whether the budgets hold, and what came of the calls, for tokens with `monitor`."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Annotated, Any

import redis.asyncio as redis
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from gateway.auth import Scope
from gateway.http_errors import ApiError
from gateway.monitoring.admission import admit
from gateway.monitoring.call_watch import BUDGETS_MS
from gateway.monitoring.figures import all_workers, figures_of
from gateway.monitoring.outcomes import count_outcomes

__all__ = ["figures_router"]


class Figures(BaseModel):
    """The metrics of this gateway's processes, as docs/operations.md names them."""

    time: Annotated[float, Field(description="When they were read, seconds since the epoch.")]
    budgets_ms: Annotated[dict[str, float], Field(description="What 99 of 100 may take.")]
    figures: Annotated[
        dict[str, list[dict[str, Any]]],
        Field(description="By metric: `labels` and `value`; or `sum`, `count` and cumulative `buckets`."),
    ]


class OutcomeCount(BaseModel):
    """The calls of one bot and model version."""

    bot: str
    bot_version: str
    model: str
    calls: int
    turns: int
    duration_s: float
    timed: int
    ended_by: dict[str, int]
    dispositions: dict[str, int]
    last_nodes: dict[str, int]


class Outcomes(BaseModel):
    """The most frequent first."""

    since: float
    complete: Annotated[bool, Field(description="False: there were more than 50,000 calls, and these are the first.")]
    outcomes: list[OutcomeCount]


def figures_router(client: redis.Redis, stream: str) -> APIRouter:
    """The routes; `client` decodes, `stream` is that of the call records."""
    router = APIRouter(prefix="/v1", tags=["monitoring"])

    @router.get("/figures", summary="Metrics as JSON")
    async def figures(request: Request) -> Figures:
        admit(request, Scope.MONITOR)
        found = await run_in_threadpool(lambda: figures_of(all_workers().collect()))
        return Figures(time=time.time(), budgets_ms=dict(BUDGETS_MS), figures=found)

    @router.get("/outcomes", summary="What came of the calls, from their records")
    async def outcomes(
        request: Request, hours: Annotated[float, Query(gt=0, le=24 * 31, description="Back from now.")] = 24.0
    ) -> Outcomes:
        admit(request, Scope.MONITOR)
        since = time.time() - hours * 3600
        try:
            counted, complete = await count_outcomes(client, stream, since=since)
        except (RedisError, OSError) as error:
            message = f"the call records cannot be read ({type(error).__name__}); try again"
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message) from None
        told = [OutcomeCount.model_validate(one, from_attributes=True) for one in counted]
        return Outcomes(since=since, complete=complete, outcomes=told)

    return router
