"""What the bot commands share: a bot by name with its faults told, and its understanding loaded."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from dialogue.bots import Bot, BotError, load_bot
from dialogue.text_call import Understand
from gateway.cli.ending import exit_with
from nlu.meaning import Meaning, NluError

__all__ = ["BotArgument", "bot_or_exit", "training_command", "understanding_of"]

BotArgument = Annotated[str, typer.Argument(metavar="DIR|NAME", help="A bot's folder, or a bundled bot.")]


def bot_or_exit(name_or_dir: str) -> Bot:
    """The bot; its faults go to stderr and end the program."""
    try:
        return load_bot(name_or_dir)
    except BotError as error:
        exit_with(str(error))


def training_command(bot: Bot) -> str:
    """What trains the bot's model from the examples that bot.yaml names, of which the second file is to measure by."""
    learn, *dev = bot.examples or (bot.directory / "examples.jsonl",)
    words = ["voicegate", "nlu", "train", "--train", learn, "--out", bot.nlu_path]
    words += ["--dev", dev[0]] if dev else []
    words += ["--language", bot.language] if bot.language != "en" else []
    return shlex.join(map(str, words))


def understanding_of(bot: Bot) -> Understand:
    """The bot's NLU model and its FAQ, on the CPU; a program that cannot have them ends, saying how to get them."""
    if bot.nlu_path is None:
        exit_with(f"bot {bot.name!r} names no model; add `nlu: nlu` to its bot.yaml and train it, or use --no-model")
    if not bot.nlu_path.is_dir():
        exit_with(f"bot {bot.name!r} is not trained: {training_command(bot)}\nOr use --no-model")
    # torch takes seconds to import; `voicegate --help` must not
    from gateway.inference.faq_indexing import faq_indexes
    from gateway.inference.faq_serving import looked_up
    from gateway.inference.second_opinion import is_doubtful
    from nlu.engine import NluEngine

    larger = bot.second_opinion
    try:
        engine = NluEngine.load(bot.nlu_path, device="cpu")
        second = NluEngine.load(larger.nlu_path, device="cpu") if larger is not None else None
    except NluError as error:
        exit_with(str(error))
    faq = faq_indexes([bot], device="cpu").get(bot.name)

    def understand(words: str) -> Meaning:
        (meaning,) = engine.predict([words])
        if second is not None and larger is not None and is_doubtful(meaning, larger.below):
            (meaning,) = second.predict([words])
        return meaning if faq is None else looked_up(faq, words, meaning)

    return understand
