"""Whether a caller means the value that was heard: 周五不行 and 不是周五 do not, 周一或者周二 leaves it open."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

__all__ = ["is_denied", "last_meant"]

_Value = TypeVar("_Value")

_DENIED_BEFORE = re.compile(r"(?:(?<!是)不是|(?<!要)不要|除了|(?<!有)没有|拿不出|还不了|付不了)在?$")
_REFUSED_BEHIND = re.compile(
    r"钱?(?:[上下中]午|早上|晚上|的话|我|可能|就|都|也|[啊呢]){0,2}"
    r"(?:太[早晚多贵]|不行|不能(?!再)|不方便|不可以|不在|没空|没时间|没钱|没办法|有事|除外)"
)
_EITHER = re.compile(r"(?:钱|号|钟|左右|[吧呢])? ?(?:或者?是?|到|至)(?:是|在)? ?|还是|要么")
_ANY = re.compile("都(?:行|可以|好)")
_OPEN_RANGE = re.compile(r"\d(?:到|至|或者?|还是)$")


def is_denied(plain: str, start: int) -> bool:
    """Whether what begins here is named only to say that it is not meant: 不是三百. Not a question: 是不是三百."""
    return _DENIED_BEFORE.search(plain, 0, start) is not None


def last_meant(plain: str, readings: Iterable[tuple[_Value | None, int, int]]) -> _Value | None:
    """The last value that is not refused; None where it is one of several that were left open.

    Args:
        plain: the text in its normal form.
        readings: values with their places in it, in order.
    """
    found: _Value | None = None
    before: _Value | None = None
    before_end = 0
    for value, start, end in readings:
        several = before is not None and before != value and _is_choice(plain, before_end, start, end)
        if several or _OPEN_RANGE.search(plain, 0, start):
            found = None
        elif value is not None and not is_denied(plain, start) and not _REFUSED_BEHIND.match(plain, end):
            found = value
        before, before_end = value, end
    return found


def _is_choice(plain: str, before_end: int, start: int, end: int) -> bool:
    """周一或者周二; 周一周二都行."""
    between = plain[before_end:start]
    return bool(_EITHER.fullmatch(between) or (not between.strip() and _ANY.match(plain, end)))
