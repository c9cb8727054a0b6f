"""`voicegate bot chat`: talk to a bot by text, in a terminal or through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dialogue.bots import Bot
from dialogue.step import MetadataError
from dialogue.text_call import Reply, TextCall
from gateway.cli.bot_model import BotArgument, bot_or_exit, understanding_of
from gateway.cli.ending import exit_with
from nlu.meaning import OUT_OF_SCOPE, Meaning

__all__ = ["chat"]

_HELP = "What you type is said. /keys 123  /silence  /reconnect  /answer key=value  /fail  /slots  /quit"

_out = Console(highlight=False, soft_wrap=True)


def chat(
    name_or_dir: BotArgument,
    meta: Annotated[
        list[str] | None, typer.Option("--meta", metavar="NAME=VALUE", help="A value for one of the flow's variables.")
    ] = None,
    today: Annotated[str, typer.Option("--today", metavar="YYYY-MM-DD", help="The day of the call.")] = "",
    no_model: Annotated[
        bool, typer.Option("--no-model", help="Understand nothing: only keys, silence and values in the words count.")
    ] = False,
) -> None:
    """Talk to a bot by text; what it understood and the slots filled are shown.

    Besides words there are /keys 123 (press these), /silence (until the bot asks again), /reconnect (the line
    was lost), /slots (all values) and /quit. Nothing is done outside: where the bot calls a webhook, you are its
    system and say /answer key=value or /fail. Lines may come from a pipe; the chat ends with the call, or
    with the input.

    \b
    voicegate bot chat bill-reminder --meta amount=120
    printf 'yes\\n/keys 4417\\n' | voicegate bot chat bill-reminder
    """
    bot = bot_or_exit(name_or_dir)
    try:
        day = date.fromisoformat(today) if today else date.today()
    except ValueError:
        exit_with(f"--today {today!r} is no day; write it as 2026-11-21")
    metadata = dict(_pair(given) for given in meta or ())
    understand = (lambda words: Meaning(OUT_OF_SCOPE, 0.0)) if no_model else understanding_of(bot)
    call = TextCall(bot, understand, today=day, metadata=metadata)
    try:
        reply = call.open()
    except MetadataError as error:
        exit_with(str(error))
    _out.print(f"[dim]{escape(bot.name)} {escape(bot.version)}, {day:%A %Y-%m-%d}. {escape(_HELP)}[/]")
    before: dict[str, str] = _values(reply)
    _print(bot, reply, {})
    while not call.state.ended and (line := _read()) is not None:
        if line == "/slots":
            _print_slots(_values(reply), {})
        elif (act := _act(call, line)) is not None:
            reply = act()
            _print(bot, reply, before)
            before = _values(reply)
    _out.print(f"[dim]The call is over: {escape(call.state.disposition or 'you hung up')}.[/]")


def _pair(given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not equals or not name:
        exit_with(f"--meta {given!r} has no name and value; write it as amount=120")
    return name, value


def _read() -> str | None:
    """The caller's next line; None at the end of the input or at /quit."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        if not line:
            return None
        _out.print(f"[cyan]you[/]  {escape(line.strip())}")
    else:
        try:
            line = _out.input("[cyan]you[/]  ")
        except (EOFError, KeyboardInterrupt):
            return None
    return None if line.strip() == "/quit" else line.strip()


def _act(call: TextCall, line: str) -> Callable[[], Reply] | None:
    """What a line makes the caller do; None, with a hint, where it is no command."""
    command, _, rest = line.partition(" ")
    keys = rest.replace(" ", "")
    if command == "/keys" and keys and not set(keys) - set("0123456789*#ABCD"):
        return lambda: call.press(keys)
    if command == "/fail":
        return lambda: call.answer(None)
    if command == "/answer":
        values = dict(pair.partition("=")[::2] for pair in rest.split())
        return lambda: call.answer(values)
    if command == "/silence":
        return call.wait
    if command == "/reconnect":
        return call.reconnect
    if command.startswith("/"):
        _out.print(f"[dim]{escape(_HELP)}[/]")
        return None
    return (lambda: call.say(line)) if line else call.wait


def _print(bot: Bot, reply: Reply, before: dict[str, str]) -> None:
    if reply.meaning is not None:
        marked = "".join(f"  {slot.name}={slot.text!r}" for slot in reply.meaning.slots)
        found = "" if (faq := reply.meaning.faq) is None else f"  asks {faq.entry} {faq.score:.2f}"
        _out.print(f"     [dim]{escape(f'{reply.meaning.intent} {reply.meaning.score:.2f}{marked}{found}')}[/]")
    _print_slots(_values(reply), before)
    _out.print(f"[green]bot[/]  {escape(reply.said or '(says nothing)')}  [dim]{escape(reply.state.node)}[/]")
    if bot.assistant is not None and reply.state.history and reply.state.history[-1].unanswered:
        _out.print(f"[dim]In a call {escape(bot.assistant.model)} would be asked.[/]")
    if (asked := reply.asks) is not None:
        sent = " ".join(f"{name}={value}" for name, value in asked.send)
        _out.print(f"[dim]Webhook {escape(asked.webhook)} would be called: {escape(sent)}. /answer or /fail[/]")
    if reply.transfer is not None:
        _out.print(f"[dim]The caller is handed over to {escape(reply.transfer)}.[/]")


def _print_slots(values: dict[str, str], before: dict[str, str]) -> None:
    """The slots that are new or changed since `before`, and those that were emptied."""
    for name in {**before, **values}:
        if values.get(name) != before.get(name):
            _out.print(f"     [yellow]{escape(name)}[/] = {escape(values.get(name, '(empty)'))}")


def _values(reply: Reply) -> dict[str, str]:
    return {name: slot.value for name, slot in reply.state.slots.items()}
