"""`/v1/outcomes`: what came of calls that ended, without what was said in them, for tokens with the scope `monitor`.

Read from the stream of call records (`gateway.records.results`), which all gateways of one Redis share.
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Annotated, Any, cast

import redis.asyncio as redis
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from gateway.access.auth import Scope
from gateway.http.errors import ApiError, Problem
from gateway.monitoring.admission import admit

__all__ = ["Outcome", "Outcomes", "outcomes_router"]

log = logging.getLogger(__name__)

_MOST = 5_000


class Outcome(BaseModel):
    """What came of one call. What a record of an older gateway does not tell is None."""

    call_id: str
    bot: str
    bot_version: str
    model: Annotated[str, Field(description="Version of its intent model; empty where the bot has none.")]
    ended_by: str
    disposition: str | None
    outcome: Annotated[str | None, Field(description="The flow's word for what was achieved.")] = None
    node: str
    turns: int
    no_match: Annotated[int | None, Field(description="Turns that were not understood.")] = None
    no_input: Annotated[int | None, Field(description="Times that the caller said nothing when asked.")] = None
    recorded: bool | None = None
    started_at: float | None
    ended_at: float
    duration_s: float | None

    @classmethod
    def of(cls, record: dict[str, Any]) -> Outcome:
        """The part of a call's record that nobody said.

        Raises:
            ValueError, KeyError: no record, or one of a version that is not known here.
        """
        told = {name: record[name] for name in _TAKEN if name in record}
        return cls(model=record["models"].get("nlu", ""), **told)


_TAKEN = [name for name in Outcome.model_fields if name != "model"]


class Outcomes(BaseModel):
    """The newest first."""

    outcomes: list[Outcome]


def outcomes_router(client: redis.Redis, stream: str) -> APIRouter:
    """The route, over a client that decodes."""
    router = APIRouter(prefix="/v1", tags=["monitoring"])

    @router.get(
        "/outcomes",
        summary="What came of the calls that ended",
        responses={503: {"model": Problem, "description": "Redis does not answer."}},
    )
    async def outcomes(
        request: Request,
        count: Annotated[int, Query(ge=1, le=_MOST, description="How many, at most.")] = 1_000,
        call: Annotated[str, Query(max_length=256, description="This call's alone, if it is among them.")] = "",
    ) -> Outcomes:
        admit(request, Scope.MONITOR)
        try:
            entries = cast("list[tuple[str, dict[str, str]]]", await client.xrevrange(stream, count=count))
        except (RedisError, OSError) as error:
            message = f"Redis does not answer ({type(error).__name__}); try again"
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", message, headers={"Retry-After": "1"}
            ) from None
        chosen = [fields for _, fields in entries if call in ("", fields.get("call_id"))]
        return Outcomes(outcomes=await run_in_threadpool(_outcomes, chosen))

    return router


def _outcomes(records: list[dict[str, str]]) -> list[Outcome]:
    """Those that can be read. For a thread: thousands of records are megabytes of JSON."""
    outcomes, unread = [], 0
    for fields in records:
        try:
            outcomes.append(Outcome.of(json.loads(fields["record"])))
        except (ValueError, KeyError):
            unread += 1
    if unread:
        log.warning("%d call records cannot be read; are all gateways of one version?", unread)
    return outcomes
