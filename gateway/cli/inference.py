"""`voicegate inference`: models for the gateways of other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.serve import start

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(inference)


def inference(
    redis_url: Annotated[
        str | None, typer.Option(help="The Redis or Valkey that gateways use, too (REDIS_URL).")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Inference processes; one a GPU is usual.")] = None,
    pool: Annotated[str | None, typer.Option(help="The pool that the gateways are in.")] = None,
    bot: Annotated[str | None, typer.Option(help="The gateways' bot, for its models: bundled or a directory.")] = None,
    control_port: Annotated[int, typer.Option(help="Health, readiness, metrics over HTTP; 0 takes any free port.")] = 0,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; it may be the gateways'.")] = None,
) -> None:
    """Answer gateways of any host from this machine's models, over Redis streams.

    Their hosts run `voicegate serve` with VOICEGATE_INFERENCE_SEAM=streams. This is a `serve` without gateway workers:
    what it starts it watches and replaces, and SIGTERM lets jobs end.

    Example: voicegate inference --redis-url rediss://models:PASSWORD@redis.internal:6379/0
    """
    flags = {
        "port": 0,
        "control_port": control_port,
        "workers": 0,
        "bot": bot,
        "redis.url": redis_url,
        "inference.seam": "streams",
        "inference.workers": workers,
        "inference.pool": pool,
    }
    start(config, flags)
