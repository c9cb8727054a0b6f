"""What short words over a prompt are: a listener's sounds, agreement, the hello of somebody who picks up, or more.

People who listen are not silent: they say "uh-huh", "okay", "嗯", "对", and want the other to go on. Whether a "yes" is
that or an answer depends on what is being asked, which is not known here (`gateway.calls.interruption` decides it).

A text is of a kind where it is made of that kind's words alone, however often they come: "yeah yeah okay" is
agreement, "yeah but when" is not. Chinese and English stand in one list, since callers mix them ("ok 好的"). A text
that asks ("okay?", "嗯？") is no backchannel, unless it is one in the form of a question ("really?", "真的吗？"); few
recognisers write the mark.

Odd cases in Chinese: "知道了" says "I see", but "好了", "行了", "可以了" say "enough", and "对了" says "by the way";
"我知道" is a listener's, but "我是" and "我可以" are answers. So what may stand around a word depends on the word.

Source: the kinds are Switchboard's backchannels, agreements and appreciations (Jurafsky et al. 1998, "Lexical,
prosodic, and syntactic cues for dialog acts"); the lists are ours, extended by what failed of bench/overlaps/dev.jsonl.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum

__all__ = ["Manner", "manner_of"]


class Manner(StrEnum):
    """What kind of words a text is made of."""

    LISTENING = "listening"
    """Sounds and words that only say "I hear you"."""
    AGREEING = "agreeing"
    """Words that say "go on" over a statement, and "yes" to a question."""
    GREETING = "greeting"
    """What one says on picking up the phone."""
    OTHER = "other"
    """Anything else: the caller has something to say."""


def _every(*columns: str) -> tuple[str, ...]:
    """All phrases made of one entry of each column; entries are divided by bars, and an empty one may be left out."""
    return tuple(" ".join(filter(None, parts)) for parts in itertools.product(*(c.split("|") for c in columns)))


_GOOD = (
    "good|great|nice|fine|okay|ok|cool|perfect|wonderful|lovely|amazing|awesome|excellent|brilliant|super|fantastic|"
    "interesting|fair|right|correct|true|funny|helpful|exciting|surprising"
)
_PARTICLES = "|啊|呀|呐|哦|噢|吧|呢|哈|嘛"

# Of the words that a text is made of, the kind that stands first here is the text's.
_PHRASES: Mapping[Manner, tuple[str, ...]] = {
    # Sounds of refusal that are spelled with listening sounds.
    Manner.OTHER: ("uh uh", "nuh uh", "unh unh", "mm mm", "huh uh", "hm mm"),
    Manner.GREETING: (
        *_every("hello|hallo|hullo|hi|hiya|hey|howdy", "|there"),
        *_every("|good", "morning|afternoon|evening"),
        "speaking",
        *_every("喂|嗨|嘿|哈喽|哈啰|在|在的|说话", _PARTICLES),
        *_every("你|您|早上|上午|中午|下午|晚上", "好"),
        *_every("|你|您|你是|您是", "哪位|哪一位", "|啊|呀"),
        *_every("|你|您", "请", "讲|说"),
    ),
    Manner.AGREEING: (
        *_every("yes|yeah|yep|yup|yah|ya|yea|okay|ok|okey|kay|'kay|mkay|right|alright|all right|alrighty|sure|indeed"),
        *_every("okey|okie", "dokey|dokie"), *_every("sure thing|for sure|roger|copy that|exactly"),
        *_every("|very|really|pretty|so|how|oh so", _GOOD),
        *_every("that's|that is|it's|it is|that was|that sounds|it sounds|sounds", "|very|really|pretty|so", _GOOD),
        *_every("that'll|that will|that would|it would|that'd", "be", "|very|really", _GOOD),
        *_every("|that's|that is|it's", "a", "good|great|nice|fair|interesting", "idea|point|choice|plan|thing"),
        *_every("of course|certainly|absolutely|totally|naturally|obviously|clearly|precisely|agreed|agree"),
        *_every("|very", "definitely"),
        *_every("i", "see|know|understand|agree|get|got|hear", "|it|that|you|with you|with that"),
        *_every("i", "think|guess|suppose", "so|so too"), "i guess", "i suppose", "good to know",
        *_every("|i've", "got", "it|you|that"),
        *_every("you are|you're", "|so|quite|absolutely|exactly", "right|correct"),
        *_every("|that", "makes", "sense|perfect sense"),
        *_every("no", "problem|problem at all|worries"),
        *_every("thanks|thank you", "|very much|so much|a lot"),
        *_every("gotcha|understood|fair enough"),
        *_every("|please|you", "go on|go ahead|continue|keep going|carry on"),
        *_every("i'm|i am", "here|listening|still here|still listening"),
        # What may stand around these: 对啊, 是的, 好嘞; not 了.
        *_every("|那|都|就|也", "对|是|好|行|可以|当然|成|中|得|没错|要得", f"{_PARTICLES}|的|嘞|勒|滴|哒|的呢|的吧"),
        *_every("ok|okay|欧克", "的|啦|哈"),
        # What one knows, with 了 and 我: 我知道了.
        *_every("|我|我都", "知道|晓得|明白|懂|了解|清楚|理解|同意|听到|听见|收到", f"{_PARTICLES}|了|的|啦|了啊|的了"),
        *_every("|真|挺|很|太|非常|还", "好|不错", f"{_PARTICLES}|的"), "太好了", "太棒了",
        *_every("|确实|就|原来|真", "是", "|这样|如此", f"{_PARTICLES}|的"),
        *_every("确实|的确", "|如此|是这样"), "应该的",
        *_every("有道理|说得对|说的对|说得是|说的是"),
        *_every("没问题|没事|没关系|没毛病|没意见", _PARTICLES),
        *_every("谢谢", "|你|您|了|啦", "|啊|哈"),
        *_every("|我", "在听|听着|在听着", "|呢|的|啊"),
        *_every("|你|您|请|请你|请您|那你|那您", "继续|接着|继续说|接着说|继续讲", "|吧|啊"),
        *_every("你|您", "说|讲", "|吧"),
        "可不", "可不是", "可不是嘛",
    ),
    Manner.LISTENING: (
        "uh huh", "ah huh", "a huh", "um hum",
        *_every("|oh", "wow|really|gosh|boy|man|dear|geez|gee|goodness|heavens"),
        *_every("|oh", "my", "|god|gosh|goodness|lord|dear|word"), "no kidding",
        *_every("is that", "so|right|true"), "you don't say",
        *_every("嗯|恩|唔|哦|噢|喔|啊|呃|额|哎|诶|欸|唉|哈|呵|哇|昂", "|呢|呐|哪|哼"),
        *_every("|原来|是|哦", "这样|这样子|如此|是这样", "|啊|呀|的|哦|的啊"),
        *_every("是|真的|是真的", "吗"), "真的", "真的啊", "哎呀", "哎哟", "天哪", "天啊",
    ),
}  # fmt: skip
# Words that add nothing to others, and are nothing alone.
_ADDED = _every("well|then|please|sir|ma'am|madam|you know|also|too")
# Sounds, however long: "mmm", "uhhh", "hmm", "ahh", "haha"; a hum may come back from a recogniser as letters, "m m".
_SOUND = re.compile(
    r"u+h+|u+h*m+|m+|m+h+m+|h+m+|h+u+h+|uhu[hm]|u+m+h+u+m+|a+h+a*|o+h+|o{2,}h*|e+r+m*|e+h+|(?:ha)+h?|(?:he){2,}"
)
# "It is due on Monday." "Oh, is it?": who hears news says so with the verb of the sentence, and ends there.
_NEWS = (
    *_every("do|does|did|is|are|was|were|has|have|had", "you|he|she|it|that|they|there"),
    *_every("you|he|she|it|they", "do|does|did|don't|doesn't|didn't|is|isn't|are|aren't|was|wasn't|have|has|haven't"),
)
# Backchannels in the form of a question: asked or not, they want no answer.
_ASKING_NOTHING = (*_every("|oh", "really|no kidding|is that so|is that right|is that true"), "是吗", "真的吗")
# What asks nothing either, but is said on picking up the phone: "yes?".
_PICKING_UP = _every("yes|yeah|是")

_TOKEN = re.compile(r"[a-z0-9']+|[^\W\d_]")
_ASKS = re.compile(r"[?？]\s*$")
_ORDER = {Manner.OTHER: 0, Manner.GREETING: 1, Manner.AGREEING: 2, Manner.LISTENING: 3}


def manner_of(text: str) -> Manner:
    """The kind of words that `text` is made of; `OTHER` for a text that holds any other word, or none at all."""
    tokens = _tokens(text)
    found: set[Manner] = set()
    phrase: tuple[str, ...] = ()
    at = 0
    while at < len(tokens):
        phrase = _longest(tokens[at:])
        if not phrase:
            return Manner.OTHER
        if phrase not in _NOTHING_ADDED:
            found.add(_MANNERS.get(phrase, Manner.LISTENING))
        at += len(phrase)
    manner = min(found, key=_ORDER.__getitem__, default=Manner.OTHER)
    # "Hello?" asks nothing; "okay?" and "嗯？" do.
    if not _ASKS.search(text) or manner is Manner.GREETING or phrase in _RHETORICAL:
        return manner
    return Manner.GREETING if tokens in _PICKED_UP else Manner.OTHER


def _longest(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The longest phrase that the tokens begin with; empty: there is none."""
    if tokens in _NEWS_TOLD:
        return tokens
    for length in range(min(_LONGEST, len(tokens)), 0, -1):
        if tokens[:length] in _MANNERS or tokens[:length] in _NOTHING_ADDED:
            return tokens[:length]
    return tokens[:1] if _SOUND.fullmatch(tokens[0]) else ()


def _tokens(text: str) -> tuple[str, ...]:
    """Words of Latin script, and single characters of any other; punctuation is dropped."""
    return tuple(_TOKEN.findall(text.lower().replace("\u2019", "'")))


def _by_tokens(phrases: Mapping[Manner, Iterable[str]]) -> dict[tuple[str, ...], Manner]:
    """A phrase that stands under several kinds is of the first."""
    found: dict[tuple[str, ...], Manner] = {}
    for manner, listed in phrases.items():
        for phrase in listed:
            found.setdefault(_tokens(phrase), manner)
    return found


_MANNERS = _by_tokens(_PHRASES)
_LONGEST = max(map(len, _MANNERS))
_NOTHING_ADDED, _NEWS_TOLD, _PICKED_UP = (frozenset(map(_tokens, listed)) for listed in (_ADDED, _NEWS, _PICKING_UP))
_RHETORICAL = _NEWS_TOLD | frozenset(map(_tokens, _ASKING_NOTHING))
