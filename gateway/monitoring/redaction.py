"""The one door through which words leave a call: personal numbers and addresses in them become a word in brackets.

    "my card is four one one one ... one one one one"  ->  "my card is [card]"
    "打一三八零零幺三八零零零"                            ->  "打[phone]"

| becomes    | what                                                                                              |
| ---------- | ------------------------------------------------------------------------------------------------- |
| `[card]`   | 13 to 19 digits whose last is their check digit (Luhn, ISO/IEC 7812-1)                            |
| `[id]`     | a Chinese resident's number (GB 11643, its check digit right); an IBAN (ISO 13616, mod 97); 3-2-4 |
| `[phone]`  | 7 to 15 digits that a telephone number may be (ITU-T E.164)                                       |
| `[number]` | any other 7 digits or more dictated together: an account, or a card with a digit misheard         |
| `[email]`  | an e-mail address, also "ann dot lee at example dot com"                                          |
| `[amount]` | a sum of money, where the setting wants it                                                        |

A recogniser mishears digits, so the checks choose the word and do not decide whether: what is long enough to be
somebody's number is hidden, right or wrong. Digits are found however they are said or written
(`gateway.monitoring.digit_runs`). What stays: fewer than seven digits together (flats, times, counts, the last four of
an account), dates, years, sums. So it does not see a number given in pieces, a few digits a turn; nor names and
addresses, which no rule knows. Pure; any text is valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

from gateway.monitoring.digit_runs import DigitRun, find_digit_runs, fold, holds_digits

__all__ = ["Finding", "Redactor", "is_card", "is_chinese_id", "is_iban"]

_SHORTEST: Final = 7
_LONGEST_PHONE: Final = 15


_SAYING_MOST_FIRST: Final = ("email", "card", "id", "phone", "number", "amount")


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be hidden between two positions (end exclusive) of a text."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Redactor:
    """The door. `amounts` hides sums of money too."""

    amounts: bool = False

    def __call__(self, text: str) -> str:
        """The text as it may leave. What has been through once is not changed again."""
        findings = self.find(text)
        if not findings:
            return text
        pieces: list[str] = []
        done = 0
        for finding in findings:
            pieces += (text[done : finding.start], f"[{finding.kind}]")
            done = finding.end
        return "".join((*pieces, text[done:]))

    def find(self, text: str) -> list[Finding]:
        """What is to be hidden, in order, not overlapping."""
        folded = fold(text)
        found = list(_addresses(folded))
        if holds_digits(folded):
            found += (*_ibans(folded), *_numbers(folded))
        if self.amounts:
            found += (Finding(*match.span(), "amount") for match in _AMOUNT.finditer(folded))
        return _joined(found)


def _joined(found: list[Finding]) -> list[Finding]:
    """In order of their places; those that overlap as one, of the kind that says most."""
    joined: list[Finding] = []
    for one in sorted(found, key=lambda finding: finding.start):
        if joined and one.start < joined[-1].end:
            last = joined.pop()
            kind = min(last.kind, one.kind, key=_SAYING_MOST_FIRST.index)
            one = Finding(last.start, max(last.end, one.end), kind)
        joined.append(one)
    return joined


# Numbers.

_TAIL_X: Final = re.compile(r"[\s.,，\-]{0,3}(?:x\b|x(?![a-z])|×|叉|艾克斯|ex\b)")
_BEFORE: Final = re.compile(r"(?:\+|plus |加)?\(?$")


def _numbers(folded: str) -> Iterator[Finding]:
    for run in find_digit_runs(folded):
        if len(run.digits) < _SHORTEST or _is_calendar(run):
            continue
        before = _BEFORE.search(folded, max(0, run.start - 6), run.start)
        start = run.start if before is None else before.start()
        end = run.end
        digits = run.digits
        if len(digits) == 17 and (tail := _TAIL_X.match(folded, end)):
            digits, end = f"{digits}X", tail.end()
        yield Finding(start, end, _kind_of(digits, run))


def _kind_of(digits: str, run: DigitRun) -> str:
    if is_chinese_id(digits) or (run.sizes == (3, 2, 4) and len(digits) == 9):
        return "id"
    if is_card(digits):
        return "card"
    return "phone" if len(digits) <= _LONGEST_PHONE else "number"


def is_card(digits: str) -> bool:
    """Whether these digits can be a payment card's: 13 to 19 of them, with a right check digit."""
    if not 13 <= len(digits) <= 19 or not digits.isdecimal() or len(set(digits)) == 1:
        return False
    doubled = (int(digit) * (1 + (place % 2)) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK: Final = "10X98765432"


def is_chinese_id(digits: str) -> bool:
    """Whether this is a Chinese resident's number: 17 digits with a birthday in them, and a check digit or X."""
    if len(digits) != 18 or not digits[:17].isdecimal():
        return False
    if _date(digits[6:10], digits[10:12], digits[12:14]) is None:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits, _ID_WEIGHTS, strict=False))
    return _ID_CHECK[total % 11] == digits[17]


def _is_calendar(run: DigitRun) -> bool:
    """Whether the digits are a date or years, as their groups show."""
    digits, groups = run.digits, run.groups
    if all(len(group) == 4 and _is_year(group) for group in groups):
        return True
    if len(digits) != 8 or 1 in run.sizes[-1:] and set(run.sizes) == {1}:
        return False
    if groups == [digits]:
        return _date(digits[:4], digits[4:6], digits[6:]) is not None
    day_first = run.sizes[:2] == (2, 2) and _is_year(digits[4:])
    return day_first and bool(_date(digits[4:], digits[:2], digits[2:4]) or _date(digits[4:], digits[2:4], digits[:2]))


def _is_year(digits: str) -> bool:
    return digits[:2] in ("19", "20")


def _date(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day)) if _is_year(year) else None
    except ValueError:
        return None


_IBAN: Final = re.compile(r"\b[a-z]{2}\d{2}(?:[ -]?[a-z0-9]{4}){2,7}(?:[ -]?[a-z0-9]{1,3})?\b")


def _ibans(folded: str) -> Iterator[Finding]:
    for match in _IBAN.finditer(folded):
        if is_iban(match[0]):
            yield Finding(*match.span(), "id")


def is_iban(text: str) -> bool:
    """Whether this is an international bank account number, its check digits right."""
    plain = re.sub(r"[ -]", "", text).upper()
    if not 15 <= len(plain) <= 34 or not plain.isascii() or not plain.isalnum():
        return False
    return int("".join(str(int(char, 36)) for char in plain[4:] + plain[:4])) % 97 == 1


# E-mail addresses.

_EMAIL: Final = re.compile(r"[\w.+%'-]{1,64}\s?@\s?[\w-]+(?:\s?\.\s?[\w-]+)+")
_AT: Final = r"(?:\s+at\s+|\s*(?:艾特|圈a|圈 a|at符号)\s*|\s*@\s*)"
_DOT: Final = r"(?:\s+dot\s+|\s*点\s*|\.)"
_ENDINGS: Final = (
    r"(?:com|net|org|edu|gov|info|io|co|cn|uk|de|fr|eu|us|ca|au|hk|tw|sg|jp|me|biz|app|dev|nl|es|it|ch|at|ie|nz|in)"
)
_HOST: Final = (
    rf"[a-z0-9-]+(?:\s+(?:dash|hyphen)\s+[a-z0-9-]+|\s[a-z0-9-]+)??(?:{_DOT}[a-z0-9-]+)*{_DOT}{_ENDINGS}(?![a-z])"
)
_HOST_END: Final = re.compile(rf"(?:dot\s+|点\s*|\.){_ENDINGS}(?![a-z])")
"""What every host that is said ends with; a search for this costs a tenth of one for the whole."""
_SAID_EMAIL: Final = re.compile(rf"(?P<local>\w[\w ._'-]{{0,80}}?){_AT}{_HOST}")
# Where an address begins, going back from its "at": behind one of these.
_BEFORE_ADDRESS: Final = frozenset(
    "is it's its address email mail e-mail me to the my a an and or so yes no um uh on at that's thats be for write "
    "send use contact under via reach sure okay ok well was i you your his her their our it".split()
)
_JOINING: Final = frozenset("dot underscore dash hyphen".split())
_MOST_PARTS: Final = 32  # spelled letter by letter
_MOST_WORDS: Final = 4


def _addresses(folded: str) -> Iterator[Finding]:
    if "@" not in folded and " at " not in folded and "艾特" not in folded and "圈" not in folded:
        return
    if "@" not in folded and _HOST_END.search(folded) is None:  # "not at all. And ..."
        return
    for match in _EMAIL.finditer(folded):
        yield Finding(*match.span(), "email")
    for match in _SAID_EMAIL.finditer(folded):
        first = _first_of_local(match["local"])
        if first is not None:
            yield Finding(match.start() + first, match.end(), "email")


def _first_of_local(local: str) -> int | None:
    """Where in what stands before the "at" the address begins; None: nothing there is a part of one ("me at")."""
    parts = list(re.finditer(r"[a-z0-9._'%+-]+|[^\W\d_a-z]", local))
    first, words = None, 0
    joined = True
    for part in parts[: -_MOST_PARTS - 1 : -1]:
        text = part[0].strip(".'")
        is_word = len(text) > 1 or text > "\u2e80"
        if text in _JOINING:
            joined = True
            continue
        words += is_word and not joined
        if (len(text) > 1 and text in _BEFORE_ADDRESS) or words >= _MOST_WORDS:
            break
        if first is not None and (text > "\u2e80") != (local[first] > "\u2e80"):
            break  # the sentence around an address is of the other script
        first, joined = part.start(), False
    return first


# Sums of money. Repetitions are bounded, so that a text of nothing else takes no longer than another.

_SAID_NUMBER: Final = (
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|a)"
)
_SAID: Final = rf"\b{_SAID_NUMBER}(?:(?:[ -]|\sand\s){_SAID_NUMBER}){{0,12}}"
_PLAIN: Final = r"(?<![\d,.])\d[\d,]{0,15}(?:\.\d{1,4})?(?:\s?(?:k|thousand|million|万|亿|千|百))?"
_MAJOR: Final = r"(?:dollars?|bucks?|euros?|pounds?|quid|yuan|rmb|usd|eur|gbp|cny)\b"
_MINOR: Final = r"(?:cents?|pence|penny|p)\b"
_HAN_NUMBER: Final = r"[\d,.零〇一二三四五六七八九十百千万亿两半壹贰叁肆伍陆柒捌玖拾佰仟]{1,16}"
_AMOUNT: Final = re.compile(
    rf"[$€£¥￥]\s?{_PLAIN}"
    rf"|(?:{_PLAIN}|{_SAID})\s?{_MAJOR}(?:\s(?:and\s)?(?:{_PLAIN}|{_SAID})(?:\s?{_MINOR})?)?"
    rf"|(?:{_PLAIN}|{_SAID})\s?(?:cents?|pence)\b"
    rf"|{_HAN_NUMBER}(?:来|多|几)?(?:块钱|块|塊|元|圆|毛钱|毛|美元|欧元|英镑|人民币)(?:{_HAN_NUMBER}(?:毛|角|分)?)*"
)
