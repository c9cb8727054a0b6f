"""A call by text: one bot stepped in memory, for `voicegate bot chat` and scripted conversations.

What the gateway does with sound and a store, `TextCall` does with strings: the decisions are the same `step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from dialogue.bots import Bot
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.turns import (
    Action,
    CallerSaid,
    CallerSilent,
    CallResumed,
    CallStarted,
    CallWebhook,
    DigitsPressed,
    Event,
    Say,
    Transfer,
    WebhookAnswered,
)
from nlu.meaning import Meaning

__all__ = ["Reply", "TextCall", "Understand"]

Understand: TypeAlias = Callable[[str], Meaning]
"""From a caller's words to what they mean: a model, or a stand-in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the bot did about one event. `meaning` is None where the caller said nothing."""

    actions: tuple[Action, ...]
    state: DialogueState
    meaning: Meaning | None = None

    @property
    def said(self) -> str:
        """All that the caller hears."""
        return " ".join(action.text for action in self.actions if isinstance(action, Say))

    @property
    def source(self) -> str | None:
        """Where the answer is from, if not from the flow (see `Say`)."""
        return next((action.source for action in self.actions if isinstance(action, Say) and action.source), None)

    @property
    def transfer(self) -> str | None:
        """Where the caller was handed over to."""
        return next((action.target for action in self.actions if isinstance(action, Transfer)), None)

    @property
    def asks(self) -> CallWebhook | None:
        """The webhook whose answer the bot waits for."""
        return next((action for action in self.actions if isinstance(action, CallWebhook)), None)


class TextCall:
    """One call. `open` first; after the bot's end every reply is empty."""

    def __init__(self, bot: Bot, understand: Understand, *, today: date, metadata: Mapping[str, str]) -> None:
        self._flow = bot.flow
        self._understand = understand
        self._today = today
        self._metadata = tuple(sorted(metadata.items()))
        self.state = DialogueState()

    def open(self) -> Reply:
        """The greeting.

        Raises:
            MetadataError: a value that a variable refuses.
        """
        return self._step(CallStarted(today=self._today.isoformat(), metadata=self._metadata))

    def say(self, words: str, assistant: tuple[str, ...] = ()) -> Reply:
        """The caller says something; `assistant` is what the bot's second track would say to it."""
        return self.mean(words, self._understand(words), assistant)

    def mean(self, words: str, meaning: Meaning, assistant: tuple[str, ...] = ()) -> Reply:
        """The same, where the meaning is known."""
        return self._step(CallerSaid(text=words, meaning=meaning, assistant=assistant), meaning)

    def press(self, keys: str) -> Reply:
        """The caller enters digits on the keypad; the `#` that ends an entry is left out, as the gateway does."""
        return self._step(DigitsPressed(digits=keys.rstrip("#") or keys))

    def wait(self) -> Reply:
        """The caller keeps silent until the bot asks again."""
        return self._step(CallerSilent())

    def answer(self, values: Mapping[str, str] | None) -> Reply:
        """The operator's system answers the webhook that is asked: texts by key, or None where it fails."""
        webhook = self._flow.nodes[self.state.node].webhook or ""
        texts = None if values is None else tuple(values.items())
        return self._step(WebhookAnswered(webhook=webhook, act=self.state.acts, answer=texts))

    def reconnect(self) -> Reply:
        """The line was lost and the caller is back."""
        return self._step(CallResumed())

    def _step(self, event: Event, meaning: Meaning | None = None) -> Reply:
        self.state, actions = step(self._flow, self.state, event)
        return Reply(actions=actions, state=self.state, meaning=meaning)
