"""`/v1/models`: the bots' models exchanged while calls run, for tokens with the scope `admin`.

Each command answers with what is loaded for the bot then. A command that is refused has changed nothing; one that gets
no answer (502) may have, and the list tells.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from gateway.access.auth import Scope
from gateway.http.errors import ApiError, Problem
from gateway.http.guard import requires
from gateway.inference.model_commands import ModelAction, ModelAdministration, ModelCommand, ModelError, ModelFault
from gateway.inference.seam import InferenceError
from nlu.pool import VersionState, VersionStatus

__all__ = ["LoadedModel", "LoadedModels", "models_router"]

_MAX_NAME_CHARS = 200
_MAX_PATH_CHARS = 4096

_STATUS = {
    ModelFault.UNKNOWN_BOT: HTTPStatus.NOT_FOUND,
    ModelFault.FORBIDDEN_PATH: HTTPStatus.FORBIDDEN,
    ModelFault.UNUSABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    ModelFault.CONFLICT: HTTPStatus.CONFLICT,
}

_BotName = Annotated[str, Field(min_length=1, max_length=_MAX_NAME_CHARS, description="The bot's name.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BotBody(_Body):
    """Of promote and rollback."""

    bot: _BotName


class LoadBody(BotBody):
    """Of load."""

    path: Annotated[
        str,
        Field(
            min_length=1,
            max_length=_MAX_PATH_CHARS,
            description="The artefact's folder on the gateway's machine, below the bot's own folder or one of the "
            "setting `nlu.model_dirs`; a relative path is in the bot's folder.",
        ),
    ]
    version: Annotated[
        str,
        Field(max_length=_MAX_NAME_CHARS, description="What must be found there; empty: whatever is."),
    ] = ""


class CanaryBody(LoadBody):
    """Of canary."""

    share: Annotated[float, Field(ge=0, le=1, description="Of the calls, 0 to 1; a call stays with its version.")]


class LoadedModel(BaseModel):
    """One version in memory. Figures are since it was loaded; means are null before the first answer."""

    bot: str
    version: str
    path: str
    state: VersionState
    share: Annotated[float, Field(description="Of the calls that it answers now.")]
    requests: int
    errors: int
    mean_ms: float | None
    mean_score: float | None
    oos_share: Annotated[float | None, Field(description="Of its answers, those out of scope.")]
    loaded_at: datetime

    @classmethod
    def of(cls, status: VersionStatus) -> LoadedModel:
        """As the inference worker tells it, with the time of day."""
        return cls(
            bot=status.bot,
            version=status.version,
            path=status.path,
            state=status.state,
            share=status.share,
            requests=status.requests,
            errors=status.errors,
            mean_ms=status.mean_ms,
            mean_score=status.mean_score,
            oos_share=status.oos_share,
            loaded_at=datetime.fromtimestamp(time.time() - status.loaded_s, UTC).replace(microsecond=0),
        )


class LoadedModels(BaseModel):
    """What is loaded, in the order it was."""

    models: list[LoadedModel]


def models_router(models: ModelAdministration) -> APIRouter:
    """The routes, carried out by `models`."""
    router = APIRouter(
        prefix="/v1/models",
        tags=["models"],
        dependencies=[Depends(requires(Scope.ADMIN))],
        responses={status.value: {"model": Problem} for status in (*_STATUS.values(), HTTPStatus.BAD_GATEWAY)},
    )

    async def carry_out(command: ModelCommand) -> LoadedModels:
        try:
            statuses = await models.administer(command)
        except ModelError as exc:
            raise ApiError(_STATUS[exc.fault], exc.fault.value, str(exc)) from None
        except InferenceError as exc:
            raise ApiError(HTTPStatus.BAD_GATEWAY, "no_answer", f"{exc}; GET /v1/models tells what is loaded") from None
        return LoadedModels(models=[LoadedModel.of(status) for status in statuses])

    @router.get("", summary="What is loaded")
    async def list_models(bot: Annotated[str, Query(max_length=_MAX_NAME_CHARS)] = "") -> LoadedModels:
        return await carry_out(ModelCommand(action=ModelAction.LIST, bot=bot))

    @router.post("/load", summary="Load a version, warm it up, and let it answer; the one before stays until idle")
    async def load(body: LoadBody) -> LoadedModels:
        return await carry_out(
            ModelCommand(action=ModelAction.LOAD, bot=body.bot, path=body.path, version=body.version)
        )

    @router.post("/canary", summary="Load a version, warm it up, and let it answer a share of the calls")
    async def canary(body: CanaryBody) -> LoadedModels:
        return await carry_out(
            ModelCommand(
                action=ModelAction.CANARY, bot=body.bot, path=body.path, share=body.share, version=body.version
            )
        )

    @router.post("/promote", summary="The version on trial answers all calls")
    async def promote(body: BotBody) -> LoadedModels:
        return await carry_out(ModelCommand(action=ModelAction.PROMOTE, bot=body.bot))

    @router.post("/rollback", summary="End the trial; without one, bring back the version before the live one")
    async def rollback(body: BotBody) -> LoadedModels:
        return await carry_out(ModelCommand(action=ModelAction.ROLLBACK, bot=body.bot))

    return router
