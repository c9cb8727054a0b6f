"""Which of the loaded bots answers: by the name that was asked for, and the language.

A bot speaks one language. Its twin in another one is the bot named `NAME-LANGUAGE`, as `bill-reminder-zh` is of
`bill-reminder`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dialogue.bots import Bot
from nlu.languages import primary_language

__all__ = ["UnknownBotError", "choose_bot"]


class UnknownBotError(LookupError):
    """No loaded bot fits; the message says which there are."""


def choose_bot(bots: Mapping[str, Bot], name: str | None, language: str | None) -> Bot:
    """The bot for a call or a request.

    Args:
        bots: the loaded ones by name, the default first.
        name: of the bot that was asked for; None for the default.
        language: a language tag ("zh", "zh-CN", "yue"), as `nlu.languages` reads it; None for the bot's own.

    Raises:
        UnknownBotError: no such bot, or neither it nor its twin speaks the language.
    """
    bot = bots.get(name) if name is not None else next(iter(bots.values()))
    if bot is None:
        raise UnknownBotError(f"no bot {name!r:.60} is loaded; there are: {', '.join(bots)}")
    wanted = primary_language(language) if language else primary_language(bot.language)
    if primary_language(bot.language) == wanted:
        return bot
    twin = bots.get(f"{bot.name}-{wanted}")
    if twin is None or primary_language(twin.language) != wanted:
        speaks = ", ".join(f"{each.name} {each.language}" for each in bots.values())
        raise UnknownBotError(f"bot {bot.name} has no twin in the language {language!r:.40}; there are: {speaks}")
    return twin
