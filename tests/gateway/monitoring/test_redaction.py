"""The redaction door: what is planted is hidden, what is harmless stays, and any text passes.

`data/personal.jsonl` holds what must be hidden (`secret`, a piece of `text`) and as what (`kind`; "any" where no check
can know: an account, a card with a digit misheard). `data/not_personal.txt` holds lines that must stay as they are.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.monitoring import digit_runs, redaction
from gateway.monitoring.digit_runs import find_digit_runs, fold
from gateway.monitoring.redaction import Redactor, is_card, is_chinese_id, is_iban

pytestmark = pytest.mark.unit

DATA = Path(__file__).parent / "data"
PLANTED = [json.loads(line) for line in (DATA / "personal.jsonl").read_text(encoding="utf-8").splitlines()]
HARMLESS = (DATA / "not_personal.txt").read_text(encoding="utf-8").splitlines()

redact = Redactor()


def left_of(text: str, secret: str) -> str:
    """The letters and digits of a secret that redaction leaves to be read."""
    hidden = {at for found in redact.find(text) for at in range(found.start, found.end)}
    start = text.index(secret)
    return "".join(text[at] for at in range(start, start + len(secret)) if text[at].isalnum() and at not in hidden)


def test_recall_on_the_planted_list() -> None:
    leaks = [line["text"] for line in PLANTED if left_of(line["text"], line["secret"])]
    assert len(PLANTED) >= 200
    assert leaks == []  # the promise is 99 %; a leak among these is one that we know of


def test_what_the_checks_know_is_named() -> None:
    wrong = [
        line["text"] for line in PLANTED if line["kind"] != "any" and f"[{line['kind']}]" not in redact(line["text"])
    ]
    assert wrong == []


@pytest.mark.parametrize("text", HARMLESS)
def test_the_harmless_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("I paid $84.50 today", "I paid [amount] today"),
        ("eighty four dollars and fifty cents", "[amount]"),
        ("1,250,000 dollars or 300 euros", "[amount] or [amount]"),
        ("a hundred and five pounds", "[amount]"),
        ("四十五块五", "[amount]"),
        ("一共1250.5元", "一共[amount]"),
        ("两万三千块钱吧", "[amount]吧"),
        ("on the 27th at 10:30", "on the 27th at 10:30"),
    ],
)
def test_sums_are_hidden_where_the_setting_wants_it(text: str, hidden: str) -> None:
    assert redact(text) == text
    assert Redactor(amounts=True)(text) == hidden


def test_only_the_secret_goes() -> None:
    assert redact("yes, call (555) 123-4567 after six") == "yes, call [phone] after six"
    assert redact("我的手机是138 0013 8000，谢谢") == "我的手机是[phone]，谢谢"
    assert redact("ann dot lee at example dot com, that is it") == "[email], that is it"


def test_what_overlaps_is_hidden_as_one() -> None:
    every = Redactor(amounts=True)
    assert every("$12345678@qq.com or 4111111111111111 dollars") == "[email] or [card]"
    assert every("it is 12345678 dollars@example.com") == "it is [email]"


def test_a_number_that_is_no_date_is_not_taken_for_one() -> None:
    assert redact("20261341") == "[phone]"
    assert redact("two zero one nine one one zero eight") == "[phone]"


def test_thousands_within_a_dictated_number_are_no_sum() -> None:
    assert redact("it is 00 zero 1,000 thanks") == "it is [phone] thanks"
    assert redact("1，000零零零零") == "[phone]"
    assert redact("1,000 uh five five five") == "[phone]"
    assert redact("pay 1,000, 2,000 or 1,250,000. Two of us") == "pay 1,000, 2,000 or 1,250,000. Two of us"


@given(st.text(max_size=200))
def test_any_text_passes_and_is_the_same_the_second_time(text: str) -> None:
    once = Redactor(amounts=True)(text)
    assert Redactor(amounts=True)(once) == once


@given(st.text(alphabet="0123456789 .,-()+one twoo十三个零幺@at dotcom$", max_size=120))
def test_near_misses_pass_too(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


_PIECES = (
    "zero one Nine twelve twenty double o oh hundred fOur it's o'nine four-five _six 七 三个八 幺 ４１ 7 42 555 4111 "
    "٣ gb29 nwbk 1.5 $ dollars 21st at @ 艾特 圈a dot Dot . 点 。 com co.uk ann example and uh is"
).split()


@given(
    st.lists(
        st.tuples(st.sampled_from(_PIECES), st.sampled_from(["", " ", " ", " ", ", ", "-", "\t", "_"])), max_size=24
    ),
    st.booleans(),
)
def test_the_quick_looks_let_nothing_through_that_the_rules_would_find(
    said: list[tuple[str, str]], amounts: bool
) -> None:
    text = "".join(piece + between for piece, between in said)
    found = Redactor(amounts=amounts).find(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(redaction, "holds_digits", lambda _: True)
        patched.setattr(redaction, "_HOST_END", re.compile(""))
        patched.setattr(digit_runs, "_FIGURE", re.compile(""))
        assert Redactor(amounts=amounts).find(text) == found


_ENGLISH = "zero one two three four five six seven eight nine".split()
_WAYS = (
    lambda digit: digit,
    lambda digit: chr(ord(digit) + 0xFEE0),
    lambda digit: f" {_ENGLISH[int(digit)]} ",
    lambda digit: f" {_ENGLISH[int(digit)].upper()} ",
    lambda digit: "零一二三四五六七八九"[int(digit)],
    lambda digit: "〇幺二三四五六七八九"[int(digit)],
)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from("0123456789"), st.sampled_from(_WAYS), st.booleans()), min_size=7, max_size=19),
    st.sampled_from([" ", ", ", "-", " - ", "，", " uh ", "嗯"]),
)
def test_a_dictated_number_is_hidden_however_its_digits_are_said(
    said: list[tuple[str, object, bool]], between: str
) -> None:
    digits = "".join(digit for digit, _, _ in said)
    assume(not re.search("19|20", digits))  # a date may stay
    text = "".join(way(digit) + (between if gap else "") for digit, way, gap in said)  # type: ignore[operator]
    assume(not re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+,?", fold(text)))  # nor can anyone tell 1,000,101 from a sum
    assert re.sub(r"\[\w+\]|[\W_]|uh|嗯", "", redact(f"it is {text} thanks")) == "itisthanks"


def test_runs_know_their_groups() -> None:
    (run,) = find_digit_runs(fold("my number is Double Five, 1234, uh, 三个八"))
    assert (run.digits, run.groups) == ("551234888", ["55", "1234", "888"])


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("one eight hundred five five five", "1800555"),
        ("twenty three forty five sixty", "234560"),
        ("plus 44 (0) 20 7946", "440207946"),
        ("between 1500 and 2000 and 30", "1500"),
        ("幺三八，零零", "13800"),
    ],
)
def test_how_runs_are_read(text: str, digits: str) -> None:
    assert next(iter(find_digit_runs(text))).digits == digits


def test_folding_keeps_every_position() -> None:
    text = "ＡＢＣ１２３－Ｘ　İß№ é"
    assert len(fold(text)) == len(text)
    assert fold(text).startswith("abc123-x ")


@given(st.integers(min_value=10**11, max_value=10**17))
def test_exactly_one_check_digit_makes_a_card(body: int) -> None:
    assert sum(is_card(f"{body}{check}") for check in range(10)) == 1


def test_check_digits() -> None:
    assert is_card("4111111111111111") and not is_card("4111111111111112")
    assert not is_card("0" * 16)
    assert is_chinese_id("11010519491231002X") and not is_chinese_id("110105194912310021")
    assert not is_chinese_id("11010519491331002X")  # no thirteenth month
    assert is_iban("GB29 NWBK 6016 1331 9268 19") and not is_iban("GB28 NWBK 6016 1331 9268 19")


@pytest.mark.parametrize("piece", ["1", "1,", "一", "one ", "a at ", "a@", "$1 and ", "gb29 ", "hundred and ", "a. "])
def test_a_long_text_of_one_kind_takes_no_longer_than_its_length(piece: str) -> None:
    redactor = Redactor(amounts=True)
    text = piece * (20_000 // len(piece))  # quadratic work would meet the test's time limit
    assert redactor(redactor(text)) == redactor(text)
