"""Chinese values as callers say or type them, and as a bot reads them back: the twin of `dialogue.english`.

Readers (`find_*`) look for one value anywhere in a text, in its normal form (`nlu.normalization`), where numerals are
figures already: 四十五块五 is 45.5元 and 十一月二十一号 11月21号. They return None where there is no such value, and
never guess a missing part: 十几块 and 过两天 are none. Speakers (`say_*`) spell numbers in characters, which every
voice reads alike.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal

from dialogue.chinese_counts import find_number
from dialogue.chinese_doubts import is_denied, last_meant
from dialogue.chinese_times import find_time, say_time
from dialogue.chinese_yes_no import find_yes_no
from nlu.normalization import normalize, plain_words

__all__ = [
    "CURRENCIES",
    "find_amount",
    "find_date",
    "find_digit_runs",
    "find_number",
    "find_time",
    "find_yes_no",
    "last_mention",
    "mentions",
    "say_amount",
    "say_date",
    "say_digits",
    "say_number",
    "say_time",
]

_NUMERALS = "零一二三四五六七八九"
_SPOKEN_DIGITS = _NUMERALS.replace("一", "幺")  # on the telephone, where 一 and 七 sound alike
_FIGURES = str.maketrans({char: str(value) for value, char in enumerate(_NUMERALS)} | {"〇": "0", "幺": "1"})

_DIGIT = r"[\d零〇一二三四五六七八九幺]"
_FILLERS = re.compile(r"[嗯呃额啊哦那个\s]*")
_DIGIT_RUN = re.compile(rf"(?<![\d.第]){_DIGIT}(?:[嗯呃额啊哦 ]*{_DIGIT})*(?![.\d十百千万亿下样起些定直共般])")


_NOT = re.compile("(?<!要)不$")
"""As in 不分期, not as in 要不分期, a proposal."""


def mentions(text: str, words: str) -> bool:
    """Whether the words stand in the text; Chinese has no spaces to find their ends by."""
    return last_mention(text, words) > 0


def last_mention(text: str, words: str) -> int:
    """Where the words end that stand last in the text, counted without spaces; 0 where they do not, or are denied."""
    wanted, said = plain_words(words).replace(" ", ""), plain_words(text)
    if not wanted:
        return 0
    ends = 0
    for match in re.finditer(f"(?=({' ?'.join(map(re.escape, wanted))}))", said):
        if not is_denied(said, match.start()) and not _NOT.search(said, 0, match.start()):
            ends = len(said[: match.end(1)].replace(" ", ""))
    return ends


# Digits


def find_digit_runs(text: str) -> list[str]:
    """Every run of digits in `text`, in order: 四四，呃，幺七 -> ["4417"].

    A single numeral among words is none (查一下), unless it is all that was said. A last run that is denied is none
    either (4417，不是4418); one that is corrected (不是4418，是4417) is followed by what is meant.
    """
    plain = normalize(text).text
    matches = list(_DIGIT_RUN.finditer(plain))
    while matches and is_denied(plain, matches[-1].start()):
        matches.pop()
    runs = [re.sub(r"[^\d零〇一二三四五六七八九幺]", "", match[0]) for match in matches]
    whole = _FILLERS.sub("", plain)
    return [run.translate(_FIGURES) for run in runs if len(run) > 1 or run.isascii() or run == whole]


def say_digits(digits: str) -> str:
    """One character a digit, in groups of at most four with a pause between: 四四幺七，零."""
    spoken = "".join(_SPOKEN_DIGITS[int(digit)] for digit in digits)
    return "，".join(spoken[i : i + 4] for i in range(0, len(spoken), 4))


# Amounts

CURRENCIES = {"yuan": "元", "dollar": "美元", "euro": "欧元", "pound": "英镑"}
"""Names in a flow file, the default first, and how they are said."""

_AMOUNT = re.compile(
    r"(?<![\d.])(?:(?P<major>\d{1,12}(?:\.\d+)?)(?:元|块|塊|圆|美元|美金|欧元|英镑|人民币)"
    r"|(?P<jiao>\d)[角毛](?:(?P<fen>\d)分?)?|(?P<only_fen>[\d一])分(?:钱|$))"
)
_BARE_AMOUNT = re.compile(
    r"(?<![\d.:：/负第点])(?<!\d月)(?<!百分之)(\d{1,9}(?:\.\d{1,2})?)"
    r"(?![\d.:：/年月日号点天周个期多几来折成楼岁位人口秒%]|小时|分(?!期)| percent)"
)
_CLOCK = re.compile(r"(?<![\d:：])\d{1,2}[:：]\d\d(?![\d:：])")
_HYPHEN = re.compile(r"(?<=\d)[-–—~～](?=\d)")


def find_amount(text: str, *, bare: bool) -> Decimal | None:
    """The last amount of money in `text`, two decimals.

    Args:
        bare: a number without a currency counts too (八十四块五 is one anyway, 八十四 only here); right only
            where the bot has just asked for an amount.
    """
    plain = normalize(_HYPHEN.sub("到", _CLOCK.sub(";", text))).text
    sums = [(_sum(match), *match.span()) for match in _AMOUNT.finditer(plain)]
    if not sums and bare:
        sums = [(Decimal(match[1]), *match.span()) for match in _BARE_AMOUNT.finditer(plain)]
    found = last_meant(plain, sums)
    return None if found is None else found.quantize(Decimal("0.01"))


def _sum(match: re.Match[str]) -> Decimal:
    if match["major"]:
        return Decimal(match["major"])
    if match["jiao"]:
        return Decimal(match["jiao"]) / 10 + Decimal(match["fen"] or 0) / 100
    return Decimal(match["only_fen"].translate(_FIGURES)) / 100


def say_amount(amount: Decimal, currency: str = "yuan") -> str:
    """八十四元五角; other currencies with a point: 八十四点五美元."""
    if amount < 0:
        return f"负{say_amount(-amount, currency)}"
    whole, hundredths = int(amount), int(amount * 100) % 100
    if currency != "yuan":
        decimals = "".join(_NUMERALS[int(digit)] for digit in f"{hundredths:02}".rstrip("0"))
        return f"{say_number(whole)}{'点' if decimals else ''}{decimals}{CURRENCIES[currency]}"
    tenths, last = divmod(hundredths, 10)
    parts = f"{say_number(whole)}元" if whole or not hundredths else ""
    if tenths:
        parts += f"{_NUMERALS[tenths]}角"
    elif parts and last:
        parts += "零"
    return parts + (f"{_NUMERALS[last]}分" if last else "")


_UNITS = ((10**8, "亿"), (10**4, "万"), (1000, "千"), (100, "百"), (10, "十"))


def say_number(value: int) -> str:
    """A number as it is said before what it counts: 两百零五, 十二, 两, 负三."""
    if value < 0:
        return "负二" if value == -2 else f"负{say_number(-value)}"
    if value < 10:
        return "两" if value == 2 else _NUMERALS[value]
    size, name = next((size, name) for size, name in _UNITS if value >= size)
    head, rest = divmod(value, size)
    if size == 10:
        said = ("" if head == 1 else _NUMERALS[head]) + name
    else:
        said = say_number(head) + name
    if not rest:
        return said
    if rest == 2:
        tail = "二"
    else:
        tail = ("一" if 10 <= rest < 20 else "") + say_number(rest)
    return said + ("零" if rest < size // 10 else "") + tail


# Dates

_WEEKDAYS = "一二三四五六日"
_WEEK = "(?:周|週|星期|礼拜|禮拜)"
_BEFORE = "(?:之|以)?前"
_AFTER = "(?:之|以)?[后後内]"
_RELATIVE_DAYS = {
    "大前天": -3,
    "前天": -2,
    "昨[天日晚]": -1,
    r"今[天日](?!是?(?:几|星期几|周几|礼拜几))|今[晚儿早]|现在(?![^ ]{0,2}(?:不|没(?!问题)|在|有事|忙))": 0,
    "马上|立刻|立马|这就": 0,
    "明[天日晚儿早]": 1,
    "大[后後]天": 3,
    "[后後]天": 2,
}
_FESTIVALS = {"元旦": (1, 1), "劳动节": (5, 1), "国庆": (10, 1), "圣诞": (12, 25)}
"""Those with a fixed day of the calendar."""

_ISO = re.compile(r"(?<!\d)(\d{4})([-/.])(\d\d?)\2(\d\d?)(?!\d)")
_WEEKDAY_FIGURE = re.compile(r"(?:(?<=[周週])|(?<=星期)|(?<=[礼禮]拜))([1-6])(?![\d.点块元天个百千万人次])")
_Reading = Callable[[re.Match[str], date, bool], date | None]


def find_date(text: str, today: date, *, past: bool = False) -> date | None:
    """The last day named in `text`: 明天, 下周五, 三天后, 二十七号, 十一月二十七号, 月底, 11/27, 2026-11-27.

    Args:
        today: the day of the call.
        past: read days without a direction (周五, 三号) as the latest that has been, not the next to come.
    """
    plain = normalize(_ISO.sub(r"\1年\3月\4号", text)).text.replace("号码", "")
    plain = _WEEKDAY_FIGURE.sub(lambda match: _NUMERALS[int(match[1])], plain)
    return last_meant(plain, _days(plain, today, past))


def _days(plain: str, today: date, past: bool) -> Iterator[tuple[date | None, int, int]]:
    at = 0
    while at < len(plain):
        reading = next(_readings_at(plain, at, today, past), None)
        if reading is not None:
            day, end = reading
            yield day, at, end
        at = at + 1 if reading is None else end


def _readings_at(plain: str, at: int, today: date, past: bool) -> Iterator[tuple[date | None, int]]:
    for pattern, read in _READINGS:
        if match := pattern.match(plain, at):
            day = read(match, today, past)
            if day or match.groupdict().get("month"):  # the 30th of February is not the 30th of another month
                yield day, match.end()


def _relative(days: int) -> _Reading:
    return lambda match, today, past: today + timedelta(days)


def _festival(match: re.Match[str], today: date, past: bool) -> date | None:
    return _nearest(*_FESTIVALS[match[0]], today, past)


def _span(match: re.Match[str], today: date, past: bool) -> date | None:
    """3天后, 过3天, 2个星期内, 半个月后, 3天前."""
    if not (match["after"] or match["before"] or match["pass"]) or (match["pass"] and match["before"]):
        return None
    sign = -1 if match["before"] else 1
    if match["count"] == "半":
        return today + timedelta(sign * 15) if match["unit"] == "月" else None
    count = 1 if match["count"] == "一" else int(match["count"])
    if count > 365:
        return None
    if match["unit"] == "月":
        return _months_later(today, sign * count)
    return today + timedelta(sign * count * (1 if match["unit"] in "天日" else 7))


def _weekday(match: re.Match[str], today: date, past: bool) -> date | None:
    """周五, 下周五, 下下星期一, 周末, 下周."""
    which, name = match["which"] or "", match["weekday"]
    monday = today - timedelta(today.weekday())
    if not name:
        return today + timedelta(7 * len(which) * (1 if which[0] == "下" else -1)) if which[:1] in "上下" else None
    number = 5 if name == "末" else 6 if name == "天" else _WEEKDAYS.index(name)
    if which[:1] and which[0] in "上下":
        return monday + timedelta(7 * len(which) * (1 if which[0] == "下" else -1) + number)
    ahead = (number - today.weekday()) % 7
    if past:
        return today - timedelta((7 - ahead) % 7 or 7)
    # On Saturday 周末 is now; 周六 is a week away.
    return today + timedelta(ahead if name == "末" else ahead or 7)


def _month_part(match: re.Match[str], today: date, past: bool) -> date | None:
    """月底, 下个月底, 下个月, 下月初, 11月底, 下个月5号."""
    if match["number"]:
        months = (int(match["number"]) - today.month) % 12 if 1 <= int(match["number"]) <= 12 else None
        if months is None:
            return None
    else:
        which = match["which"] or ""
        months = len(which) * {"下": 1, "上": -1}.get(which[:1], 0)
    first = _months_later(today.replace(day=1), months)
    last = calendar.monthrange(first.year, first.month)[1]
    part, day = match["part"], match["day"]
    if day:
        return _valid(first.year, first.month, int(day))
    if part in ("底", "末"):
        return first.replace(day=last)
    if part == "中":
        return first.replace(day=15)
    if part == "初":
        # The beginning of a month that has begun is the next one's.
        return first if match["which"] or match["number"] or past else _months_later(first, 1)
    return first if match["which"] in ("上", "下", "上上", "下下") else None


def _calendar_day(match: re.Match[str], today: date, past: bool) -> date | None:
    """11月27号, 2026年11月27号, 明年1月5号, 27号, 11/27."""
    month, day = match["month"], int(match["day"])
    if "/" in match[0] and int(month) > 12:
        month, day = str(day), int(month)
    if match["year"]:
        year = {"今": 0, "明": 1, "去": -1}.get(match["year"][0])
        return _valid(int(match["year"]) if year is None else today.year + year, int(month), day)
    return _nearest(int(month), day, today, past) if month else _nearest_day(day, today, past)


def _year_end(match: re.Match[str], today: date, past: bool) -> date | None:
    return date(today.year, 12, 31)


_AND_WEEKDAY = rf"(?: ?{_WEEK}[一二三四五六日天])?"
_READINGS: tuple[tuple[re.Pattern[str], _Reading], ...] = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        *((pattern, _relative(days)) for pattern, days in _RELATIVE_DAYS.items()),
        ("|".join(_FESTIVALS), _festival),
        (
            rf"(?<!\d)(?P<year>\d{{4}}(?=年)|[今明去](?=年))年(?P<month>\d\d?)月份?(?P<day>\d\d?)(?!\d)[号日]?{_AND_WEEKDAY}",
            _calendar_day,
        ),
        (rf"(?<!\d)(?P<year>)(?P<month>\d\d?)月份?(?P<day>\d\d?)(?!\d)[号日]?{_AND_WEEKDAY}", _calendar_day),
        (r"(?<![\d/])(?P<year>)(?P<month>\d\d?)/(?P<day>\d\d?)(?![\d/])", _calendar_day),
        (
            rf"(?P<pass>再?过)?(?P<count>\d+|一|半)个?(?P<unit>天|日|周|週|星期|礼拜|禮拜|月)"
            rf"(?:(?P<after>{_AFTER})|(?P<before>{_BEFORE}))?",
            _span,
        ),
        (rf"(?P<which>上上|下下|[上下])个?{_WEEK}(?P<weekday>[一二三四五六日天末])?{_AND_WEEKDAY}", _weekday),
        (rf"(?P<which>[这這本])?个?{_WEEK}(?P<weekday>[一二三四五六日天末])", _weekday),
        (
            rf"(?P<which>上上|下下|[上下这這本])个?月(?:[份的]?(?P<day>\d\d?)[号日]{_AND_WEEKDAY}|(?P<part>[底末中初]))?(?P<number>)",
            _month_part,
        ),
        (r"(?P<which>)(?P<number>(?<!\d)\d\d?|)月份?(?P<part>[底末中初])(?P<day>)", _month_part),
        (r"年底|年末", _year_end),
        (rf"(?<!\d)(?P<year>)(?P<month>)(?P<day>\d\d?)[号日]{_AND_WEEKDAY}", _calendar_day),
    )
)
"""What may begin at a place of the text, first that fits; each says how far it goes."""


def _months_later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _valid(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:  # the 30th of February: not a day, so nothing was found
        return None


def _nearest(month: int, day: int, today: date, past: bool) -> date | None:
    for year in (today.year, today.year - 1) if past else (today.year, today.year + 1):
        found = _valid(year, month, day)
        if found and ((found <= today) if past else (found >= today)):
            return found
    return None


def _nearest_day(number: int, today: date, past: bool) -> date | None:
    """The nearest month, looking back with `past`, in which this day exists."""
    for months in range(4):
        first = _months_later(today.replace(day=1), -months if past else months)
        found = _valid(first.year, first.month, number)
        if found and ((found <= today) if past else (found >= today)):
            return found
    return None


def say_date(day: date, today: date) -> str:
    """今天, 明天, or 十一月二十七号星期五; with the year where it is far."""
    if 0 <= (day - today).days <= 1:
        return "今天" if day == today else "明天"
    year = "" if abs((day - today).days) < 330 else "".join(_NUMERALS[int(digit)] for digit in str(day.year)) + "年"
    month, number = (say_number(value).replace("两", "二") for value in (day.month, day.day))
    return f"{year}{month}月{number}号星期{_WEEKDAYS[day.weekday()]}"
