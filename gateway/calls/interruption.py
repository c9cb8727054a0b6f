"""Speech over a prompt: does the caller want the turn, or only show that they listen? A pure decision, by words.

Playout is held as soon as the speech has lasted 200 ms (`Speaker.hold`). Once its words are known, first that applies:

| heard                                       | over                                | verdict      |
| ------------------------------------------- | ----------------------------------- | ------------ |
| the line's echo of the prompt itself        | any prompt                          | echo         |
| no words: a cough, a noise                  | any prompt                          | no_words     |
| a greeting ("hello?", "喂")                 | what the call's first seconds bring | hello        |
| a greeting                                  | any later prompt                    | interruption |
| listening or agreeing ("mm", "okay", "对")  | the last 500 ms of a question       | interruption |
| agreeing, and the node waits for such words | a question                          | interruption |
| listening or agreeing                       | any other prompt                    | backchannel  |
| any other words                             | any prompt                          | interruption |

An interruption empties playout; after anything else the prompt goes on where the caller stopped hearing it (over echo
it was never held).

Which words are which: `dialogue.backchannels`. "Over" is what the caller was hearing when the speech began, not when
its words were known: a "mm" that the prompt outlived by nothing is still one. An agreeing word that is taken for an
answer costs half a sentence; one that is taken for a backchannel costs nothing but saying it again after the question:
so where it is not plain that a question was heard, it is a backchannel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dialogue.backchannels import Manner, manner_of

__all__ = ["Overlap", "Verdict", "judge"]

_NEARLY_HEARD_MS = 500


class Verdict(StrEnum):
    """What speech over a prompt was; also the label of its metric."""

    INTERRUPTION = "interruption"
    BACKCHANNEL = "backchannel"
    HELLO = "hello"
    NO_WORDS = "no_words"
    ECHO = "echo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What the caller was hearing when their speech began."""

    question: bool
    """Whether the prompt asked something."""
    left_ms: int
    """From there to the end of all prompts."""
    call_age_ms: int
    """Since the bot's first word."""


def judge(text: str, over: Overlap, *, answers: bool, hello_ms: int) -> Verdict:
    """Decide what words over a prompt are; see the table above.

    Args:
        text: what was recognised; blank where there were no words.
        answers: the node waits for what these words mean.
        hello_ms: how long after the bot's first word a greeting is only a greeting.
    """
    if not text.strip():
        return Verdict.NO_WORDS
    match manner_of(text):
        case Manner.OTHER:
            return Verdict.INTERRUPTION
        case Manner.GREETING:
            return Verdict.HELLO if over.call_age_ms <= hello_ms else Verdict.INTERRUPTION
        case manner:
            as_good_as_heard = over.left_ms <= _NEARLY_HEARD_MS
            is_answer = as_good_as_heard or (manner is Manner.AGREEING and answers)
            return Verdict.INTERRUPTION if over.question and is_answer else Verdict.BACKCHANNEL
