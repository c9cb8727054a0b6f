"""How many, in Chinese: 三个人, 不是三个是四个, 十, 半打. The rules are those of `dialogue.english_counts`."""

from __future__ import annotations

import re
import unicodedata

from nlu.normalization import normalize

__all__ = ["find_number"]

_CLAUSES = re.compile(r"[，,。；;！!？?、\n]+(?!\d)")
_KEYS_APART = re.compile(r"(?<!\d)(\d) (?=\d(?!\d))")
_NOT_WHOLE = re.compile(
    r"[\d零一二两三四五六七八九十][个位]?\s*[-–~至到]\s*[\d零一二两三四五六七八九十]|(?<![\d\w])[-−]\s*\d|负\d|\d/\d|\d\.\d|\d[个位]?半"
)
_COUNT = re.compile(
    r"(?<![\d.:第点])(\d{1,9})(?![\d.:：点月日号%多几来余元块圆角毛楼层])(?!\d*年)(?!小时前)(?![个位人]?多)"
)
_YEARS = re.compile(r"(?<!\d)\d{1,2}(?=年)")
_ONE_OF_SOMETHING_ELSE = re.compile(r"(?<!\d)1(?:次|下|会|分钟|遍|边|秒|直|起|点|样|个问题|件事)")
_CORRECTION = re.compile(r"不对|不是|错了|说错|改成|应该是|不")
_NUMERALS = "零一二三四五六七八九十"
_LONE = re.compile(
    r"(?:就|只|要|来|有|是|共|一共|总共|给我|我们|我要|我们要|我们有|大概|那就)?"
    rf"([〇两俩仨{_NUMERALS}])"
    r"(?:[个位人名份盒杯瓶桌台夜晚口套箱件条只双把辆本碗票组批间张天][人]?)?[吧啊呢的了哦呀]?"
)
_DOZENS = {"半打": "6个", "一打": "12个"}
_FILLERS = re.compile(r"[嗯呃额啊哦\s]+")


def find_number(text: str) -> int | None:
    """The whole number in `text`, at most nine figures; None where there is none, or more than one."""
    plain = _KEYS_APART.sub(r"\1", unicodedata.normalize("NFKC", text))
    for word, figures in _DOZENS.items():
        plain = plain.replace(word, figures)
    clauses = [normalize(clause).text for clause in _CLAUSES.split(plain)]
    said = "|".join(_as_figures(clause) for clause in clauses)
    if _NOT_WHOLE.search(plain) or _NOT_WHOLE.search(said):
        return None
    said = _ONE_OF_SOMETHING_ELSE.sub("|", said)
    for stretch in reversed(_split(said)):
        counts = {int(figures) for figures in _COUNT.findall(stretch)} | {
            int(figures) for figures in _YEARS.findall(stretch)
        }
        if counts:
            return counts.pop() if len(counts) == 1 else None
    return None


def _as_figures(clause: str) -> str:
    """A numeral that is all a clause has is a number: 七, 就三份, 我们俩. Among words it may be none (查一下)."""
    lone = _LONE.fullmatch(_FILLERS.sub("", clause))
    if not lone:
        return clause
    numeral = {"〇": "零", "两": "二", "俩": "二", "仨": "三"}.get(lone[1], lone[1])
    return f"{_NUMERALS.index(numeral)}个"


def _split(said: str) -> list[str]:
    """The stretches between corrections; a number that is denied (不是3个) goes with its denial."""
    return _CORRECTION.split(re.sub(r"(?:不是|不要)\d+", "不", said))
