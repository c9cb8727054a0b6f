"""Scripted calls for the dialogue tests: texts with the meanings an NLU would give them."""

from __future__ import annotations

from datetime import date

from dialogue.bots import load_bot
from dialogue.script import read_marked
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.turns import Action, CallerSaid, CallStarted, CallWebhook, HangUp, Listen, Say, Transfer
from nlu.meaning import Meaning

BILL_REMINDER = load_bot("bill-reminder")
TODAY = date(2026, 11, 21)  # a Saturday


def said(intent: str, marked: str, *, score: float = 0.9) -> CallerSaid:
    """A caller turn; slots are marked as in "i will pay on [friday](date)"."""
    text, slots = read_marked(marked)
    return CallerSaid(text=text, meaning=Meaning(intent, score, slots))


def started(**metadata: str) -> tuple[DialogueState, tuple[Action, ...]]:
    """bill-reminder's state after its greeting."""
    event = CallStarted(today=TODAY.isoformat(), metadata=tuple(metadata.items()))
    return step(BILL_REMINDER.flow, DialogueState(), event)


def spoken(actions: tuple[Action, ...]) -> str:
    """What the caller hears."""
    return " ".join(action.text for action in actions if isinstance(action, Say))


def last(actions: tuple[Action, ...]) -> Listen | HangUp | Transfer:
    """How the step ends; every step that does anything ends in one of these."""
    end = actions[-1]
    assert not isinstance(end, Say | CallWebhook)
    return end
