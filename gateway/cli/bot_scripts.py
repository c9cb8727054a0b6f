"""`voicegate bot test`: scripted conversations, run against a bot."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from dialogue.bots import Bot
from dialogue.rehearsal import Exchange, Rehearsal, rehearse
from dialogue.script import SCRIPTS_FOLDER, Call, Script, load_script
from gateway.cli.bot_model import BotArgument, bot_or_exit, understanding_of
from gateway.cli.ending import exit_with
from gateway.replay.client import CallError
from gateway.replay.spoken_script import caller_recordings, can_be_spoken, speak_call
from nlu.meaning import Meaning
from tts_stub.espeak import EspeakSynthesizer
from tts_stub.synthesis import SynthesisError, Voice

__all__ = ["test"]

_CALLS_AT_ONCE = 3
_CALLER_WPM = 150

_out = Console(highlight=False, soft_wrap=True)


def test(
    name_or_dir: BotArgument,
    scripts: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[SCRIPT]...", help="Script files; by default all in the bot's folder scripts."),
    ] = None,
    only: Annotated[str, typer.Option("--only", help="Run the calls whose name holds this.")] = "",
    no_model: Annotated[
        bool,
        typer.Option("--no-model", help="Take each turn's intent and marks from the script: tests the flow alone."),
    ] = False,
    audio: Annotated[
        bool, typer.Option("--audio", help="Speak the caller's lines to a running gateway that serves the bot.")
    ] = False,
    url: Annotated[str, typer.Option("--url", help="The gateway, for --audio.")] = "ws://127.0.0.1:8765/v1/call",
    token: Annotated[
        str | None, typer.Option("--token", envvar="VOICEGATE_TOKEN", help="A caller's token, for --audio.")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print every call, not only those that fail.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run scripted conversations against a bot, by text or by audio.

    A script says what the caller does, turn by turn, and what the bot must do: what is heard, the node, the
    slots, the intent, the end. The bot's own model understands the caller unless --no-model. Each call
    that goes another way is printed as a conversation with the differences; the exit code is then 1.

    With --audio the lines are synthesised and spoken in real time to the gateway at --url, a few calls at
    once; calls with silence or lost lines are left to the run by text, and so are slots.

    \b
    voicegate bot test bill-reminder
    voicegate bot test ./my-bot my-bot/scripts/happy.yaml --only promise --verbose
    """
    bot = bot_or_exit(name_or_dir)
    read = [_read(path) for path in scripts or _scripts_of(bot)]
    begun = time.monotonic()
    calls = [(script, call) for script in read for call in script.calls if only.casefold() in call.name.casefold()]
    if not calls:
        exit_with(f"no call's name holds {only!r}; leave --only out to run all")
    if audio:
        done = _speak(bot, [(script, call) for script, call in calls if can_be_spoken(call)], url, token)
    else:
        understand = None if no_model else understanding_of(bot)
        done = [(script, rehearse(bot, call, understand, today=script.today)) for script, call in calls]
    failed = sum(not run.passed for _, run in done)
    if as_json:
        typer.echo(json.dumps(_document(bot, done, failed), ensure_ascii=False))
    else:
        for script, run in done:
            _print(script, run, verbose)
        took = time.monotonic() - begun
        _out.print(f"{len(done) - failed} of {len(done)} calls went as scripted ({took:.1f} s)")
    if failed:
        raise typer.Exit(1)


def _speak(
    bot: Bot, calls: Sequence[tuple[Script, Call]], url: str, token: str | None
) -> list[tuple[Script, Rehearsal]]:
    """Place the calls, a few at once: each takes as long as a person would."""
    synthesizer, voice = EspeakSynthesizer(), Voice(bot.voice.name, _CALLER_WPM)

    async def one(call: Call, line: asyncio.Semaphore) -> Rehearsal:
        async with line:
            recordings = caller_recordings(call, synthesizer, voice, sample_rate_hz=8000)
            return await speak_call(bot, call, recordings, url, token=token)

    async def every() -> list[Rehearsal]:
        line = asyncio.Semaphore(_CALLS_AT_ONCE)
        return await asyncio.gather(*(one(call, line) for _, call in calls))

    try:
        spoken = asyncio.run(every())
    except (CallError, SynthesisError) as error:
        exit_with(str(error))
    return [(script, run) for (script, _), run in zip(calls, spoken, strict=True)]


def _scripts_of(bot: Bot) -> list[Path]:
    found = sorted((bot.directory / SCRIPTS_FOLDER).glob("*.yaml"))
    if not found:
        exit_with(f"bot {bot.name!r} has no scripts; write {bot.directory / SCRIPTS_FOLDER}/calls.yaml, or name files")
    return found


def _read(path: Path) -> Script:
    script, faults = load_script(path)
    if script is None:
        exit_with("\n".join(map(str, faults)))
    return script


def _print(script: Script, run: Rehearsal, verbose: bool) -> None:
    """One line for a call that passed; for another the conversation, with what was expected where it differed."""
    where = f"{script.path}:{run.call.line}"
    if run.passed and not verbose:
        _out.print(f"[green]ok[/]    {escape(run.call.name)}")
        return
    _out.print(
        f"{'[green]ok[/]   ' if run.passed else '[bold red]FAIL[/] '} {escape(run.call.name)}  [dim]{escape(where)}[/]"
    )
    for exchange in run.exchanges:
        for line in _conversation(exchange):
            _out.print(line)
    for mismatch in run.at_end:
        _out.print(_difference(mismatch.key, mismatch.expected, mismatch.got, mismatch.line))
    _out.print()


def _conversation(exchange: Exchange) -> Iterator[str]:
    if exchange.caller:
        meaning = f"  [dim]{_meaning(exchange.meaning)}[/]" if exchange.meaning else ""
        yield f"  caller  {escape(exchange.caller)}{meaning}"
    if exchange.said:
        yield f"  bot     {escape(exchange.said)}  [dim]{escape(exchange.node)}[/]"
    for mismatch in exchange.mismatches:
        yield _difference(mismatch.key, mismatch.expected, mismatch.got, mismatch.line)


def _difference(key: str, expected: str, got: str, line: int) -> str:
    wanted = "must not hear" if key == "hears_not" else key
    return f"    [red]- {escape(wanted)}: {escape(expected)}[/]  [dim]line {line}[/]\n    [green]+ {escape(got)}[/]"


def _meaning(meaning: Meaning) -> str:
    slots = "".join(f" {slot.name}={slot.text!r}" for slot in meaning.slots)
    return escape(f"{meaning.intent} {meaning.score:.2f}{slots}")


def _document(bot: Bot, done: Sequence[tuple[Script, Rehearsal]], failed: int) -> dict[str, Any]:
    return {
        "bot": bot.name,
        "version": bot.version,
        "ok": not failed,
        "calls": len(done),
        "failed": failed,
        "results": [_result(script, run) for script, run in done],
    }


def _result(script: Script, run: Rehearsal) -> dict[str, Any]:
    return {
        "call": run.call.name,
        "file": str(script.path),
        "line": run.call.line,
        "ok": run.passed,
        "disposition": run.disposition,
        "turns": [
            {
                "caller": exchange.caller,
                "bot": exchange.said,
                "node": exchange.node,
                "intent": exchange.meaning.intent if exchange.meaning else None,
                "score": round(exchange.meaning.score, 4) if exchange.meaning else None,
                "slots": exchange.slots,
            }
            for exchange in run.exchanges
        ],
        "mismatches": [{"line": m.line, "key": m.key, "expected": m.expected, "got": m.got} for m in run.mismatches()],
    }
