"""`/v1/models` and `voicegate models` over it: who may, what is asked for, and how a refusal is told."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import uvicorn
from fastapi import FastAPI
from typer.testing import CliRunner

from gateway.access.auth import Authenticator, Scope, mint
from gateway.access.origins import OriginPolicy
from gateway.cli import models as command_line
from gateway.http.errors import add_error_handlers
from gateway.http.guard import Guard
from gateway.http.models_api import models_router
from gateway.inference.model_commands import ModelAction, ModelCommand, ModelError, ModelFault
from gateway.inference.seam import InferenceError
from gateway.settings import load
from nlu.pool import VersionState, VersionStatus

pytestmark = pytest.mark.unit

SECRET = "s" * 40

LIVE = VersionStatus(
    bot="b",
    version="v1",
    path="/models/v1",
    state=VersionState.LIVE,
    share=0.75,
    requests=120,
    errors=1,
    mean_ms=7.25,
    mean_score=0.91,
    oos_share=0.05,
    loaded_s=60.0,
)
FRESH = VersionStatus(
    bot="b",
    version="v2",
    path="/models/v2",
    state=VersionState.CANARY,
    share=0.25,
    requests=0,
    errors=0,
    mean_ms=None,
    mean_score=None,
    oos_share=None,
    loaded_s=1.0,
)


class Models:
    """Keeps the commands and answers as it is told."""

    def __init__(self) -> None:
        self.commands: list[ModelCommand] = []
        self.fails_with: Exception | None = None

    async def administer(self, command: ModelCommand, *, timeout_s: float = 120.0) -> list[VersionStatus]:
        self.commands.append(command)
        if self.fails_with is not None:
            raise self.fails_with
        return [LIVE, FRESH]


def application(models: Models, environ: dict[str, str] | None = None) -> FastAPI:
    app = FastAPI()
    settings = load(environ=environ or {})
    app.state.guard = Guard(Authenticator(settings.auth), settings.api, OriginPolicy([], secure=False))
    add_error_handlers(app)
    app.include_router(models_router(models))
    return app


@asynccontextmanager
async def client(models: Models, environ: dict[str, str] | None = None) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=application(models, environ), client=("127.0.0.1", 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


@pytest.mark.parametrize(
    ("method", "path", "body", "command"),
    [
        ("GET", "", None, ModelCommand(action=ModelAction.LIST)),
        ("GET", "?bot=b", None, ModelCommand(action=ModelAction.LIST, bot="b")),
        ("POST", "/load", {"bot": "b", "path": "m"}, ModelCommand(action=ModelAction.LOAD, bot="b", path="m")),
        (
            "POST",
            "/canary",
            {"bot": "b", "path": "m", "share": 0.1, "version": "v2"},
            ModelCommand(action=ModelAction.CANARY, bot="b", path="m", share=0.1, version="v2"),
        ),
        ("POST", "/promote", {"bot": "b"}, ModelCommand(action=ModelAction.PROMOTE, bot="b")),
        ("POST", "/rollback", {"bot": "b"}, ModelCommand(action=ModelAction.ROLLBACK, bot="b")),
    ],
)
async def test_each_request_is_a_command_and_answers_what_is_loaded(
    method: str, path: str, body: dict[str, Any] | None, command: ModelCommand
) -> None:
    models = Models()
    async with client(models) as http:
        answer = await http.request(method, f"/v1/models{path}", json=body)
    assert (answer.status_code, models.commands) == (200, [command])
    live, fresh = answer.json()["models"]
    loaded_at = datetime.fromisoformat(live.pop("loaded_at"))
    assert 55 < (datetime.now(UTC) - loaded_at).total_seconds() < 65
    assert live == {
        "bot": "b",
        "version": "v1",
        "path": "/models/v1",
        "state": "live",
        "share": 0.75,
        "requests": 120,
        "errors": 1,
        "mean_ms": 7.25,
        "mean_score": 0.91,
        "oos_share": 0.05,
    }
    assert (fresh["state"], fresh["mean_score"]) == ("canary", None)


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (ModelError(ModelFault.UNKNOWN_BOT, "no bot 'x'"), 404, "unknown_bot"),
        (ModelError(ModelFault.FORBIDDEN_PATH, "/etc: not below"), 403, "forbidden_path"),
        (ModelError(ModelFault.UNUSABLE, "m: altered since training"), 422, "unusable"),
        (ModelError(ModelFault.CONFLICT, "another change is under way"), 409, "conflict"),
        (InferenceError("no inference worker is connected"), 502, "no_answer"),
    ],
)
async def test_a_refusal_has_its_status_and_says_why(failure: Exception, status: int, code: str) -> None:
    models = Models()
    models.fails_with = failure
    async with client(models) as http:
        answer = await http.post("/v1/models/load", json={"bot": "b", "path": "m"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert str(failure) in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("load", {"bot": "b"}),
        ("load", {"bot": "", "path": "m"}),
        ("load", {"bot": "b", "path": "m", "share": 0.5}),
        ("load", {"bot": "b", "path": "x" * 5000}),
        ("canary", {"bot": "b", "path": "m"}),
        ("canary", {"bot": "b", "path": "m", "share": 1.5}),
        ("promote", {}),
        ("rollback", ["b"]),
    ],
)
async def test_a_body_that_is_no_command_reaches_nobody(path: str, body: object) -> None:
    models = Models()
    async with client(models) as http:
        answer = await http.post(f"/v1/models/{path}", json=body)
    assert 400 <= answer.status_code < 500 and answer.json()["code"] == "bad_request"
    assert models.commands == []


async def test_only_an_admin_may_even_look() -> None:
    models = Models()
    async with client(models, {"VOICEGATE_AUTH_SECRET": SECRET}) as http:

        async def status(*scopes: Scope) -> int:
            headers = {"Authorization": f"Bearer {mint(SECRET, 'x', scopes, 60)}"} if scopes else {}
            return (await http.get("/v1/models", headers=headers)).status_code

        assert await status() == 401
        assert await status(*(scope for scope in Scope if scope is not Scope.ADMIN)) == 403
        assert models.commands == []
        assert await status(Scope.ADMIN) == 200


# The command line, over a real port.


@contextmanager
def served(models: Models, environ: dict[str, str] | None = None) -> Iterator[str]:
    """The routes on a port of this machine, on a loop of their own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(application(models, environ), log_config=None, lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def voicegate(*arguments: str, token: str = "") -> tuple[int, str, str]:
    app = typer.Typer()
    app.callback()(lambda: None)
    command_line.register(app)
    result = CliRunner().invoke(app, ["models", *arguments], env={"VOICEGATE_TOKEN": token, "COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def test_the_commands_ask_and_show_what_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model-2").mkdir()
    monkeypatch.chdir(tmp_path)
    models = Models()
    with served(models) as url:
        code, out, _ = voicegate("list", "--url", url)
        assert code == 0
        first, source, second, _ = out.splitlines()
        figures = "75 % of the calls, 120 requests, 1 errors, 7.2 ms, score 0.910, 5.0 % out of scope"
        assert first == f"b v1 live: {figures}"
        assert source.startswith("    loaded 20") and source.endswith(" UTC from /models/v1")
        assert second == "b v2 canary: 25 % of the calls, 0 requests, 0 errors"
        for arguments in (
            ("load", "b", "model-2"),
            ("load", "b", "elsewhere", "--version", "v2"),
            ("canary", "b", "model-2", "--share", "0.1"),
            ("promote", "b"),
            ("rollback", "b"),
        ):
            code, out, _ = voicegate(*arguments, "--url", url, "--json")
            assert code == 0
            assert [model["version"] for model in json.loads(out)["models"]] == ["v1", "v2"]
    here = str(tmp_path / "model-2")
    assert models.commands == [
        ModelCommand(action=ModelAction.LIST),
        ModelCommand(action=ModelAction.LOAD, bot="b", path=here),
        ModelCommand(action=ModelAction.LOAD, bot="b", path="elsewhere", version="v2"),
        ModelCommand(action=ModelAction.CANARY, bot="b", path=here, share=0.1),
        ModelCommand(action=ModelAction.PROMOTE, bot="b"),
        ModelCommand(action=ModelAction.ROLLBACK, bot="b"),
    ]


def test_a_refusal_is_told_and_is_exit_code_1() -> None:
    models = Models()
    models.fails_with = ModelError(ModelFault.UNUSABLE, "m: altered since training")
    with served(models) as url:
        assert voicegate("load", "b", "m", "--url", url) == (1, "", "m: altered since training\n")


def test_a_token_comes_from_the_environment_or_the_option() -> None:
    token = mint(SECRET, "x", [Scope.ADMIN], 60)
    with served(Models(), {"VOICEGATE_AUTH_SECRET": SECRET}) as url:
        code, _, error = voicegate("list", "--url", url)
        assert code == 1 and "token" in error
        assert voicegate("list", "--url", url, token=token)[0] == 0
        assert voicegate("list", "--url", url, "--token", token)[0] == 0


def test_without_a_gateway_the_mend_is_named() -> None:
    code, _, error = voicegate("list", "--url", "http://127.0.0.1:1")
    assert code == 1 and "is `voicegate serve` running" in error
