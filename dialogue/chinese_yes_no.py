"""Yes and no in Chinese. Words that only look like either are set aside first: 可是, 不知道, 对了, 可以吗."""

from __future__ import annotations

import re

from nlu.normalization import normalize

__all__ = ["find_yes_no"]

_MANNERS = re.compile(r"不好意思|对不起|不客气|不用谢|没事")
_TAGS = re.compile(r"(?<!不)(?:是|对|好|行|可以|要)[吗嗎]")
_QUESTIONS = re.compile(r"[^ ]*[吗嗎](?= |$)|[是要](?:什么|谁|哪|多少|多久|几)|可以(?:再说|再讲|重复|告诉|帮)")
_NEITHER = re.compile(
    r"好不好|(?<!但)是不是|对不对|行不行|能不能|可不可以|要不要|有没有|好像|差不多|可是|可能|可惜|要是|要不(?:是|(?![了起]))"
    r"|不太?(?:知道|清楚|确定|明白|懂|一定|好说)"
    r"|(?:没太?听|听不太?)(?:清楚?|懂|见|明白|到)|没太?(?:清楚|懂|明白)"
    r"|别[急挂]|对了(?= ?[^对 ])|是这样的?(?= [^ ])"
    r"|(?:[好行嗯]的? ?)?你?(?:稍等|等一?下|等等|等一?会)"
)
_UNREAD = "~"
"""Stands where those were, so that what follows them is no beginning: 可能是 is not 是."""

_HESITATION = re.compile(rf"嗯 ?我?{_UNREAD}")

_ASSENTS_WITH_NOT = re.compile(
    r"[没沒](?:[错錯]|[问問][题題]|有[错錯]|有问题(?!了)|什么问题(?!了)|啥问题(?!了)|有?意见|关系|毛病)|不错|不会错|不反对"
    r"|(?:是的|对的?)[ 啊呀]*不用改"
)
_NO = re.compile(r"[不没沒否别甭]|[错錯]|拒绝|(?<![打计多])算了吧?$")
_YES = re.compile(
    r"^(?:[嗯啊哦噢喂呃那哎诶欸唉]|\s)*"
    r"(?:是|[对對](?![方面账于比])|好(?![多贵奇烦难久几])|行(?![李动程])|可以|成(?![都功本])|要(?![看问等])|嗯|可)"
    r"|[是对對好]的|可以|确认|正确|当然|同意|愿意|就是我(?=[呀啊的本 ]|$)|(?:^| )都行|嗯|ok|yes"
    r"|(?:确定|肯定|确实|需要)(?=的|是|可以|$| )"
)
_PUZZLED = re.compile(r"嗯(?=[?？])")


def find_yes_no(text: str) -> bool | None:
    """True for yes, False for no, None for neither; a refusal wins over an assent (好的，不用了)."""
    plain = _MANNERS.sub("", normalize(_PUZZLED.sub("", text)).text)
    for words in (_TAGS, _QUESTIONS, _NEITHER):
        plain = words.sub(_UNREAD, plain)
    plain = _HESITATION.sub(_UNREAD, plain)
    certain = _ASSENTS_WITH_NOT.sub("", plain)
    if _NO.search(certain):
        return False
    return True if certain != plain or _YES.search(plain) else None
