"""Speech over a prompt: each row of the table, and a set of what callers say over what bots say."""

from __future__ import annotations

import pytest

from gateway.calls.interruption import Overlap, Verdict, judge

pytestmark = pytest.mark.unit

STATEMENT = Overlap(question=False, left_ms=3000, call_age_ms=20_000)
QUESTION = Overlap(question=True, left_ms=3000, call_age_ms=20_000)
GREETING = Overlap(question=False, left_ms=3000, call_age_ms=900)


def verdict(text: str, over: Overlap = STATEMENT, *, answers: bool = False) -> Verdict:
    return judge(text, over, answers=answers, hello_ms=2000)


def test_no_words_interrupt_nothing() -> None:
    assert {verdict(text, over) for text in ("", " ") for over in (STATEMENT, QUESTION)} == {Verdict.NO_WORDS}


@pytest.mark.parametrize("text", ["hello", "Hello?", "喂？", "喂 你好", "yes hello"])
def test_a_hello_is_one_only_at_the_calls_beginning(text: str) -> None:
    assert verdict(text, GREETING) is Verdict.HELLO
    assert verdict(text, STATEMENT) is Verdict.INTERRUPTION


@pytest.mark.parametrize("text", ["yes", "对", "okay", "right yeah"])
def test_agreement_is_an_answer_where_one_was_asked_for(text: str) -> None:
    assert verdict(text) is Verdict.BACKCHANNEL
    assert verdict(text, QUESTION) is Verdict.BACKCHANNEL, "the question wants something else"
    assert verdict(text, QUESTION, answers=True) is Verdict.INTERRUPTION
    assert verdict(text, STATEMENT, answers=True) is Verdict.BACKCHANNEL, "the question has not been heard"


@pytest.mark.parametrize("text", ["mm", "uh huh", "嗯"])
def test_listening_sounds_are_answers_only_when_the_question_is_as_good_as_heard(text: str) -> None:
    assert verdict(text, QUESTION, answers=True) is Verdict.BACKCHANNEL
    almost = Overlap(question=True, left_ms=300, call_age_ms=20_000)
    assert verdict(text, almost) is Verdict.INTERRUPTION
    statement = Overlap(question=False, left_ms=300, call_age_ms=20_000)
    assert verdict(text, statement) is Verdict.BACKCHANNEL


# What callers say while the bot says "Thank you. Your bill of 84 dollars and 50 cents is due on Friday." (S, nothing is
# asked), "Am I speaking with Alex Green?" (Q, yes or no is an answer) or "Which day will you pay it?" (W, it is none).
# B: a person would go on speaking, I: a person would stop. Who wrote the lists wrote this: it is no blind test.
CALLERS = """
S B uh-huh
S B Mm-hmm.
S B mhm
S B okay
S B Okay, okay.
S B yeah
S B yeah yeah
S B right
S B oh right, okay
S B I see
S B got it
S B sure
S B alright
S B oh
S B oh wow
S B really
S B yes I know
S B hmm okay
S B that's right
S B thank you
S B good
S B ok sure
S I no
S I no no that's wrong
S I wait
S I hold on
S I stop
S I sorry what
S I what
S I pardon
S I huh
S I can you repeat that
S I yeah but I already paid
S I okay but when
S I who are you
S I I can't hear you
S I that's not right
S I not now
S I one second
S I I want to talk to a person
S I four four one seven
S I right but not this week
S I okay bye
S I uh-uh
Q I yes
Q I Yes, speaking
Q I yeah
Q I yep that's me
Q I no
Q I no she's not here
Q I correct
Q B mm
Q B um
Q B uh
Q I who wants to know
W B okay
W B mm-hmm
W B right
W I friday
W I on the third
W I tomorrow I think
W I I don't know
S B 嗯
S B 嗯嗯
S B 嗯，好
S B 哦
S B 哦哦好的
S B 对
S B 对对对
S B 好
S B 好的好的
S B 是的
S B 是啊
S B 行
S B 知道了
S B 明白
S B 这样啊
S B 啊 对
S B 可以可以
S B 嗯 我知道
S I 不对
S I 不是的
S I 等一下
S I 等等
S I 什么
S I 你说什么
S I 我没听清
S I 再说一遍
S I 好了别说了
S I 对不起我现在没空
S I 我已经付过了
S I 不用了谢谢
S I 你是谁啊
S I 转人工
S I 是什么时候
S I 停
Q I 是的
Q I 对，我是
Q I 是我
Q I 不是
Q I 我就是
Q B 嗯
Q B 呃
W B 好的
W B 哦
W I 星期五
W I 下个月吧
"""
ROWS = [tuple(line.split(" ", 2)) for line in CALLERS.strip().splitlines()]
MAY_DIFFER = 0.05


def as_wanted(asked: str, wanted: str, text: str) -> bool:
    over = STATEMENT if asked == "S" else QUESTION
    stops = verdict(text, over, answers=asked == "Q") is Verdict.INTERRUPTION
    return stops == (wanted == "I")


@pytest.mark.parametrize("language", ["english", "chinese"])
@pytest.mark.parametrize("wanted", ["B", "I"])
def test_callers_are_judged_as_a_person_would(language: str, wanted: str) -> None:
    rows = [row for row in ROWS if row[1] == wanted and (row[2].isascii()) == (language == "english")]
    assert len(rows) >= 20
    wrong = [row for row in rows if not as_wanted(*row)]
    assert len(wrong) <= MAY_DIFFER * len(rows), wrong
