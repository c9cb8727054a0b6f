"""What short words over a prompt are: a listener's sounds, agreement, the hello of somebody who picks up, or more.

People who listen are not silent: they say "uh-huh", "okay", "嗯", "对", and want the other to go on. Whether a "yes" is
that or an answer depends on what is being asked, which is not known here (`gateway.interruption` decides it).

A text is of a kind where it is made of that kind's words alone, however often they come: "yeah yeah okay" is
agreement, "yeah but when" is not. Chinese and English stand in one list, since callers mix them ("ok 好的"). A text
that asks ("okay?", "嗯？") is no backchannel; few recognisers write the mark.

Source: the kinds are Switchboard's backchannels and agreements (Jurafsky et al. 1998, "Lexical, prosodic, and syntactic
cues for dialog acts"); the lists are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

__all__ = ["Manner", "manner_of"]


class Manner(StrEnum):
    """What kind of words a text is made of."""

    LISTENING = "listening"
    """Sounds that only say "I hear you"."""
    AGREEING = "agreeing"
    """Words that say "go on" over a statement, and "yes" to a question."""
    GREETING = "greeting"
    """What one says on picking up the phone."""
    OTHER = "other"
    """Anything else: the caller has something to say."""


# Of the words that a text is made of, the kind that stands first here is the text's.
_PHRASES: Mapping[Manner, tuple[str, ...]] = {
    # Sounds of refusal that are spelled with listening sounds.
    Manner.OTHER: ("uh uh", "nuh uh", "unh unh", "mm mm", "huh uh", "hm mm"),
    Manner.GREETING: (
        "hello", "hallo", "hullo", "hi", "hey", "good morning", "good afternoon", "good evening", "morning",
        "hello there", "hi there",
        "喂", "你好", "您好", "哈喽", "哈啰", "早上好", "上午好", "下午好", "晚上好", "哪位", "你哪位", "您哪位",
        "哪一位", "您是哪位", "你是哪位", "请讲", "请说",
    ),
    Manner.AGREEING: (
        "yes", "yeah", "yep", "yup", "yah", "ya", "ok", "okay", "okey", "right", "alright", "all right", "sure", "fine",
        "good", "great", "cool", "perfect", "exactly", "correct", "true", "indeed", "of course", "certainly",
        "absolutely", "definitely", "i see", "i know", "i understand", "i got it", "got it", "gotcha", "understood",
        "makes sense", "that makes sense", "fair enough", "that's right", "that is right", "that's fine",
        "that's good", "sounds good", "thanks", "thank you", "very good", "oh good", "go on", "go ahead",
        "对", "对的", "对啊", "对呀", "是", "是的", "是啊", "是呀", "好", "好的", "好吧", "好啊", "好呀", "好嘞",
        "行", "行吧", "可以", "可以的", "没错", "不错", "当然", "知道", "知道了", "我知道", "我知道了", "明白",
        "明白了", "我明白", "我明白了", "懂了", "我懂", "了解", "了解了", "清楚", "清楚了", "没问题", "没事",
        "这样啊", "这样子", "原来如此", "有道理", "谢谢", "谢谢你", "嗯呢",
    ),
    Manner.LISTENING: (
        "uh", "uh huh", "uhhuh", "ah huh", "aha", "mm", "mmm", "mhm", "mhmm", "mm hm", "mm hmm",
        "mmhm", "mmhmm", "hm", "hmm", "hmmm", "um", "umm", "erm", "er", "ah", "aah", "oh", "ooh", "wow", "really",
        "oh really", "interesting", "yea",
        "嗯", "恩", "唔", "哦", "噢", "喔", "啊", "呃", "额", "哎", "诶", "欸", "哈", "嗯哼", "是吗", "真的", "真的吗",
    ),
}  # fmt: skip

_TOKEN = re.compile(r"[a-z0-9']+|[^\W\d_]")
_ASKS = re.compile(r"[?？]\s*$")
_ORDER = {Manner.OTHER: 0, Manner.GREETING: 1, Manner.AGREEING: 2, Manner.LISTENING: 3}


def manner_of(text: str) -> Manner:
    """The kind of words that `text` is made of; `OTHER` for a text that holds any other word, or none at all."""
    tokens = _tokens(text)
    if not tokens:
        return Manner.OTHER
    found: set[Manner] = set()
    at = 0
    while at < len(tokens):
        for length in range(min(_LONGEST, len(tokens) - at), 0, -1):
            if (manner := _MANNERS.get(tokens[at : at + length])) is not None:
                found.add(manner)
                at += length
                break
        else:
            return Manner.OTHER
    manner = min(found, key=_ORDER.__getitem__)
    # "Hello?" asks nothing; "okay?" and "嗯？" do.
    return Manner.OTHER if _ASKS.search(text) and manner is not Manner.GREETING else manner


def _tokens(text: str) -> tuple[str, ...]:
    """Words of Latin script, and single characters of any other; punctuation is dropped."""
    return tuple(_TOKEN.findall(text.lower().replace("\u2019", "'")))


def _by_tokens(phrases: Mapping[Manner, Iterable[str]]) -> dict[tuple[str, ...], Manner]:
    return {_tokens(phrase): manner for manner, listed in phrases.items() for phrase in listed}


_MANNERS = _by_tokens(_PHRASES)
_LONGEST = max(map(len, _MANNERS))
