"""`voicegate call` and `voicegate demo`: a call from recordings, printed as a person reads it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from audio.formats import AudioFormat
    from gateway.replay.client import CallResult, Recording
    from gateway.replay.tape import TapeRecorder

__all__ = ["register"]

DEFAULT_URL = "ws://127.0.0.1:8765/v1/call"
DEMO_AUDIO = Path(__file__).parent.parent / "demo"

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(call)
    app.command()(demo)


def call(
    audio: Annotated[
        list[Path], typer.Argument(help="What the caller says, a file a turn (any format libsndfile reads).")
    ],
    url: Annotated[str, typer.Option(help="Media address of the gateway.")] = DEFAULT_URL,
    bot: Annotated[str | None, typer.Option(help="Bot to talk to; the gateway's default unless given.")] = None,
    call_id: Annotated[str | None, typer.Option(help="Go on with this call, or name the new one.")] = None,
    caller: Annotated[str | None, typer.Option(help="The caller's number, as a PBX would tell it.")] = None,
    encoding: Annotated[str, typer.Option(help="pcm_s16le, mulaw or alaw.")] = "pcm_s16le",
    sample_rate: Annotated[int, typer.Option(help="8000 or 16000.")] = 8000,
    meta: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the bot; may be repeated.")] = None,
    save_audio: Annotated[Path | None, typer.Option(help="Write what the caller heard to this WAV.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="Tape what the caller sends (NAME.tape), for `voicegate replay --against`.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="VOICEGATE_TOKEN", help="Bearer token, where the gateway wants one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Place one call in real time: silence until the bot's prompt has ended, then the next recording is spoken.

    Prints prompts, transcripts, intents, slots and timings. Exit code 0 unless the call ended in an error;
    recordings left unspoken because the bot hung up are reported, not an error.

    Example: voicegate call yes.wav friday.wav --bot bill-reminder --save-audio heard.wav
    """
    from audio.files import AudioFileError, read_audio, write_wav
    from audio.formats import AudioFormat, UnsupportedFormatError
    from gateway.replay.client import CallError, Recording
    from gateway.replay.tape import SUFFIX

    if record is not None and (record.suffix != SUFFIX or not record.resolve().parent.is_dir()):
        typer.echo(f"Cannot place this call: --record {record}: name a *{SUFFIX} in a folder that exists", err=True)
        raise typer.Exit(2)
    _check_folder_of(save_audio)
    try:
        fmt = AudioFormat.parse(encoding, sample_rate, 1)
        recordings = [Recording(path.name, read_audio(path, fmt.sample_rate_hz)) for path in audio]
        metadata = dict(_pair(text) for text in meta or [])
    except (AudioFileError, UnsupportedFormatError, ValueError) as exc:
        typer.echo(f"Cannot place this call: {exc}", err=True)
        raise typer.Exit(2) from None
    keys: dict[str, Any] = {
        "call_id": call_id,
        "bot": bot,
        "caller": caller,
        "metadata": metadata or None,
        "token": token,
    }
    try:
        with _taping(record, fmt, bot) as recorder:
            keys["recorder"] = recorder
            result = asyncio.run(_place(url, fmt, recordings, keys, show=None if as_json else _Printer()))
    except CallError as exc:
        if as_json:
            typer.echo(_as_json_error(str(exc)))
        else:
            typer.echo(f"Cannot place this call: {exc}", err=True)
        raise typer.Exit(1) from None
    if save_audio is not None:
        write_wav(save_audio, result.bot_audio, fmt.sample_rate_hz)
    _report(result, as_json)
    raise typer.Exit(1 if result.ended_by == "error" else 0)


def _check_folder_of(save_audio: Path | None) -> None:
    """Before the call: a recording that cannot be written would be known only when it is over."""
    if save_audio is not None and not save_audio.resolve().parent.is_dir():
        typer.echo(f"Cannot place this call: --save-audio {save_audio}: its folder does not exist; make it", err=True)
        raise typer.Exit(2)


def demo(
    as_json: JsonFlag = False,
    save_audio: Annotated[Path | None, typer.Option(help="Write what the caller heard to this WAV.")] = None,
) -> None:
    """Start a gateway of its own, place a real call from recorded callers, print the conversation, stop.

    The bundled bill reminder calls; recorded human digits and synthesised sentences answer. Nothing needs to run.

    Example: voicegate demo --save-audio heard.wav
    """
    _check_folder_of(save_audio)
    from gateway.processes.embedded_redis import EmbeddedRedisError
    from gateway.processes.facts import PortTakenError
    from gateway.processes.supervisor import ChildFailedError

    try:
        result = asyncio.run(_demo(show=None if as_json else _Printer()))
    except (ChildFailedError, PortTakenError, EmbeddedRedisError, TimeoutError) as exc:
        typer.echo(
            f"The demo's gateway did not start: {exc or 'not ready in time'}; try `voicegate doctor`",
            err=True,
        )
        raise typer.Exit(1) from None
    if save_audio is not None:
        from audio.files import write_wav

        write_wav(save_audio, result.bot_audio, 8000)
    _report(result, as_json)
    raise typer.Exit(0 if result.ended_by in ("bot", "transfer") and not result.errors else 1)


async def _demo(show: Callable[[dict[str, Any]], None] | None) -> CallResult:
    from audio.files import read_audio
    from audio.formats import AudioFormat
    from gateway import logs
    from gateway.processes.supervisor import Gateway
    from gateway.replay.client import Recording
    from gateway.settings import load

    # A gateway of its own: free ports, embedded Redis, whatever the environment says.
    settings = load(
        environ={},
        flags={"port": 0, "control_port": 0, "bot": "bill-reminder", "bots": (), "log_level": "warning"},
    )
    logs.configure(settings.log_level, settings.log_format, process="demo")
    recordings = [Recording(path.name, read_audio(path, 8000)) for path in sorted(DEMO_AUDIO.glob("*.wav"))]
    async with Gateway(settings) as gateway:
        typer.echo("starting a gateway: Redis, models, prompts ...", err=True)
        await gateway.ready()
        url = f"ws://127.0.0.1:{gateway.port}/v1/call"
        typer.echo(f"calling {url}\n", err=True)
        return await _place(url, AudioFormat(), recordings, {"bot": "bill-reminder"}, show=show)


async def _place(
    url: str,
    fmt: Any,
    recordings: list[Recording],
    keys: dict[str, Any],
    *,
    show: Callable[[dict[str, Any]], None] | None,
) -> CallResult:
    from gateway.replay.client import CallClient

    client = CallClient(url, fmt=fmt, on_event=show or (lambda event: None), **keys)
    return await client.run(recordings)


@contextmanager
def _taping(record: Path | None, fmt: AudioFormat, bot: str | None) -> Iterator[TapeRecorder | None]:
    """Who tapes the call, if anybody; only we may read the tape."""
    if record is None:
        yield None
        return
    from gateway.replay.tape import TapeRecorder

    with open(os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        yield TapeRecorder(file, fmt, bot=bot)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"--meta {text!r} is not KEY=VALUE")
    return key, value


class _Printer:
    """The conversation as it happens, for a person. Output that is piped stays plain."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._intent: dict[str, Any] = {}

    def __call__(self, event: dict[str, Any]) -> None:
        from rich.markup import escape

        out = self._console.print
        match event.get("type"):
            case "ready":
                resumed = ", resumed" if event["resumed"] else ""
                out(f"[dim]call {escape(event['call_id'])}{resumed}[/]")
            case "prompt":
                timing = event["timing"]
                took = timing.get("first_utterance_ms", timing.get("endpoint_to_reply_ms"))
                note = f"  [dim]{took:.0f} ms[/]" if took is not None else ""
                out(f"[bold cyan]bot   [/] {escape(event['text'])}{note}")
            case "transcript":
                out(f"[bold green]caller[/] {escape(event['text'])}")
            case "intent":
                slots = ", ".join(f"{slot['name']}={slot['value']}" for slot in event["slots"])
                out(f"       [dim]{escape(event['intent'])} {event['score']:.2f}  {escape(slots)}[/]")
            case "transfer":
                out(f"[bold]transfer[/] to {escape(event['target'])}")
            case "hangup":
                out(f"[bold]bot hangs up[/] [dim]{escape(event['reason'])}[/]")
            case "error":
                out(f"[bold red]error[/] {escape(event['code'])}: {escape(event['message'])}")


def _report(result: CallResult, as_json: bool) -> None:
    if as_json:
        typer.echo(_as_json(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="timings, ms", title_justify="left", header_style="bold")
    columns = (
        "turn",
        "words",
        "reply after endpoint",
        "reply after last word",
        "ASR",
        "NLU",
        "dialogue",
        "TTS",
    )
    for name in columns:
        table.add_column(name, justify="left" if name == "words" else "right")
    for turn in result.turns:
        stages = [_ms(turn.timing.get(name)) for name in ("asr_ms", "nlu_ms", "dialogue_ms", "tts_ms")]
        table.add_row(
            str(turn.round_id),
            turn.transcript,
            _ms(turn.timing.get("endpoint_to_reply_ms")),
            _ms(turn.speech_end_to_reply_ms),
            *stages,
        )
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print()
    console.print(table)
    console.print(f"first words after {_ms(result.first_utterance_ms)} ms; ended by {result.ended_by}")
    if result.unspoken:
        console.print(f"not spoken: {', '.join(result.unspoken)}")
    for error in result.errors:
        console.print(f"[red]error[/] {error}")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _as_json(result: CallResult) -> str:
    import json

    return json.dumps(
        {
            "call_id": result.call_id,
            "resumed": result.resumed,
            "first_utterance_ms": result.first_utterance_ms,
            "greeting": result.greeting,
            "turns": [
                {
                    "round_id": turn.round_id,
                    "audio": turn.spoken,
                    "transcript": turn.transcript,
                    "intent": turn.intent,
                    "score": turn.score,
                    "slots": turn.slots,
                    "reply": turn.reply,
                    "node": turn.node,
                    "endpoint_to_reply_ms": turn.timing.get("endpoint_to_reply_ms"),
                    "speech_end_to_reply_ms": _rounded(turn.speech_end_to_reply_ms),
                    "timing": turn.timing,
                }
                for turn in result.turns
            ],
            "ended_by": result.ended_by,
            "disposition": result.disposition,
            "unspoken": result.unspoken,
            "errors": result.errors,
        },
        ensure_ascii=False,
    )


def _as_json_error(message: str) -> str:
    import json

    empty = {"call_id": "", "first_utterance_ms": None, "turns": [], "ended_by": "error", "errors": [message]}
    return json.dumps(empty, ensure_ascii=False)
