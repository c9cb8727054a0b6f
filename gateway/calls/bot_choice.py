"""Which of the loaded bots answers: by the name that was asked for, and the language.

A bot speaks one language. Its twin in another one is the bot named `NAME-LANGUAGE`, as `bill-reminder-zh` is of
`bill-reminder`.
"""

from __future__ import annotations

from collections.abc import Mapping

from audio.asr import AUTO_LANGUAGE
from dialogue.bots import Bot
from nlu.languages import primary_language

__all__ = ["UnknownBotError", "choose_bot"]


class UnknownBotError(LookupError):
    """No loaded bot fits; the message says which there are. `reason` is the message without the peer's words."""

    def __init__(self, reason: str, given: str) -> None:
        super().__init__(f"{reason}, not {given}")
        self.reason = reason


def choose_bot(bots: Mapping[str, Bot], name: str | None, language: str | None) -> Bot:
    """The bot for a call or a request.

    Args:
        bots: the loaded ones by name, the default first.
        name: of the bot that was asked for; None for the default.
        language: a language tag ("zh", "zh-CN", "yue"), as `nlu.languages` reads it; None for the bot's own, and
            "auto" too: what is spoken is then for the recogniser to find out.

    Raises:
        UnknownBotError: no such bot, or neither it nor its twin speaks the language.
    """
    bot = bots.get(name) if name is not None else next(iter(bots.values()))
    if bot is None:
        raise UnknownBotError(f"bot must be one of those loaded ({', '.join(bots)})", f"{name!r:.60}")
    wanted = primary_language(language or AUTO_LANGUAGE)
    if wanted in (AUTO_LANGUAGE, primary_language(bot.language)):
        return bot
    twin = bots.get(f"{bot.name}-{wanted}")
    if twin is None or primary_language(twin.language) != wanted:
        speaks = ", ".join(f"{each.name} {each.language}" for each in bots.values())
        raise UnknownBotError(
            f"language must be one that bot {bot.name} or its twin speaks; there are: {speaks}", f"{language!r:.40}"
        )
    return twin
