"""Chinese text as a recogniser would have misheard it: characters that sound alike stand for each other.

A recogniser of Chinese hears syllables and writes characters, so its errors are homophones (还款 -> 海宽, 账单 -> 涨单)
and syllables that differ by what many speakers do not tell apart (z and zh, n and l, -n and -ng). Tones are ignored.

The sound of a character is read from GB 2312, whose 3,755 first-level characters stand in the order of their
pronunciation: a table of the first character of each syllable gives all of them. A character with several
pronunciations has there its one; the commonest exceptions are listed.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from nlu.data import Example
from nlu.noise import Edit, edited

__all__ = ["ChineseNoise", "syllable"]

_FIRST_OF_SYLLABLE = """
    a啊 ai埃 an鞍 ang肮 ao凹 ba芭 bai白 ban斑 bang邦 bao苞 bei杯 ben奔 beng崩 bi逼 bian鞭 biao标 bie鳖 bin彬 bing兵
    bo玻 bu哺 ca擦 cai猜 can餐 cang苍 cao操 ce厕 ceng层 cha插 chai拆 chan搀 chang昌 chao超 che车 chen郴 cheng撑
    chi吃 chong充 chou抽 chu初 chuai揣 chuan川 chuang疮 chui吹 chun春 chuo戳 ci疵 cong聪 cou凑 cu粗 cuan蹿 cui摧
    cun村 cuo磋 da搭 dai呆 dan耽 dang当 dao刀 de德 deng蹬 di堤 dian颠 diao碉 die跌 ding丁 diu丢 dong东 dou兜 du都
    duan端 dui堆 dun墩 duo掇 e蛾 en恩 er而 fa发 fan藩 fang坊 fei菲 fen芬 feng丰 fo佛 fou否 fu夫 ga噶 gai该 gan干
    gang冈 gao篙 ge哥 gei给 gen根 geng耕 gong工 gou钩 gu辜 gua刮 guai乖 guan棺 guang光 gui瑰 gun辊 guo锅 ha哈 hai骸
    han酣 hang夯 hao壕 he呵 hei嘿 hen痕 heng哼 hong轰 hou喉 hu呼 hua花 huai槐 huan欢 huang荒 hui灰 hun荤 huo豁 ji击
    jia嘉 jian歼 jiang僵 jiao蕉 jie揭 jin巾 jing荆 jiong炯 jiu揪 ju鞠 juan捐 jue撅 jun均 ka喀 kai开 kan刊 kang康
    kao考 ke坷 ken肯 keng坑 kong空 kou抠 ku枯 kua夸 kuai块 kuan宽 kuang匡 kui亏 kun坤 kuo括 la垃 lai莱 lan蓝 lang琅
    lao捞 le勒 lei雷 leng棱 li厘 lia俩 lian联 liang粮 liao撩 lie列 lin琳 ling玲 liu溜 long龙 lou楼 lu芦 lv驴 luan峦
    lue掠 lun抡 luo萝 ma妈 mai埋 man瞒 mang芒 mao猫 me么 mei玫 men门 meng萌 mi眯 mian棉 miao苗 mie蔑 min民 ming明
    miu谬 mo摸 mou谋 mu拇 na拿 nai氖 nan南 nang囊 nao挠 ne呢 nei馁 nen嫩 neng能 ni妮 nian蔫 niang娘 niao鸟 nie捏
    nin您 ning柠 niu牛 nong脓 nu奴 nv女 nuan暖 nue虐 nuo挪 o哦 ou欧 pa啪 pai拍 pan攀 pang乓 pao抛 pei呸 pen喷
    peng砰 pi坯 pian篇 piao飘 pie撇 pin拼 ping乒 po坡 pu扑 qi期 qia掐 qian牵 qiang枪 qiao橇 qie切 qin钦 qing青
    qiong琼 qiu秋 qu趋 quan圈 que缺 qun裙 ran然 rang瓤 rao饶 re惹 ren壬 reng扔 ri日 rong戎 rou揉 ru茹 ruan软 rui蕊
    run闰 ruo若 sa撒 sai腮 san三 sang桑 sao搔 se瑟 sen森 seng僧 sha莎 shai筛 shan珊 shang墒 shao梢 she奢 shen砷
    sheng声 shi师 shou收 shu蔬 shua刷 shuai摔 shuan栓 shuang霜 shui谁 shun吮 shuo说 si斯 song松 sou搜 su嗽 suan酸
    sui虽 sun孙 suo蓑 ta塌 tai胎 tan坍 tang汤 tao掏 te特 teng藤 ti梯 tian天 tiao挑 tie贴 ting厅 tong通 tou偷 tu凸
    tuan湍 tui推 tun吞 tuo拖 wa挖 wai歪 wan豌 wang汪 wei威 wen瘟 weng嗡 wo挝 wu巫 xi昔 xia瞎 xian掀 xiang相 xiao萧
    xie楔 xin薪 xing星 xiong兄 xiu休 xu墟 xuan轩 xue靴 xun勋 ya压 yan焉 yang殃 yao邀 ye椰 yi一 yin茵 ying英 yo哟
    yong拥 you幽 yu淤 yuan鸳 yue曰 yun耘 za匝 zai栽 zan咱 zang赃 zao遭 ze责 zei贼 zen怎 zeng增 zha扎 zhai摘 zhan瞻
    zhang樟 zhao招 zhe遮 zhen珍 zheng蒸 zhi芝 zhong中 zhou舟 zhu珠 zhua抓 zhuai拽 zhuan专 zhuang桩 zhui椎 zhun谆
    zhuo捉 zi兹 zong鬃 zou邹 zu租 zuan钻 zui嘴 zun尊 zuo昨
"""
_OTHERWISE = {
    "还": "hai", "了": "le", "没": "mei", "行": "xing", "都": "dou", "着": "zhe", "得": "de", "地": "di", "的": "de",
    "会": "hui", "长": "chang", "重": "zhong", "调": "tiao", "单": "dan", "说": "shuo", "给": "gei", "曾": "ceng",
    "觉": "jue", "乐": "le", "便": "bian", "差": "cha", "系": "xi", "打": "da", "谁": "shei", "期": "qi", "大": "da",
}  # fmt: skip
_NOT_TOLD_APART = (("zh", "z"), ("ch", "c"), ("sh", "s"), ("n", "l"), ("f", "h"))
_ENDINGS = (("ang", "an"), ("eng", "en"), ("ing", "in"))
_KEPT = frozenset("零一二三四五六七八九十百千万亿两幺")
"""Numerals: what a recogniser expects among digits is digits."""
_FILLERS = "嗯啊呃哦那就的了"
_NEAR_SHARE = 0.25
_DELETED, _INSERTED = 0.12, 0.08


def _syllables() -> Mapping[str, str]:
    """Each first-level character's syllable, without tone."""
    cells = (bytes([row, cell]) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    firsts = {entry[-1]: entry[:-1] for entry in _FIRST_OF_SYLLABLE.split()}
    found: dict[str, str] = {}
    current = ""
    for char in "".join(cell.decode("gb2312", errors="ignore") for cell in cells):
        current = firsts.get(char, current)
        found[char] = current
    return found | _OTHERWISE


_SYLLABLES = _syllables()


def syllable(char: str) -> str | None:
    """How a character sounds, in pinyin without tone; None for what is no common Chinese character."""
    return _SYLLABLES.get(char)


class ChineseNoise:
    """Recogniser-like errors in Chinese text. Satisfies `nlu.noise.Noise`.

    Args:
        texts: whose characters a recogniser would know best: the more often one is in them, the likelier it is heard.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        frequency = Counter(char for text in texts for char in text)
        self._same: dict[str, list[str]] = defaultdict(list)
        for char, sound in _SYLLABLES.items():
            self._same[sound].append(char)
        self._weight = {char: 1.0 + 10.0 * frequency[char] for char in _SYLLABLES}

    def noisy(self, example: Example, rate: float, chance: random.Random) -> Example:
        """See `nlu.noise.Noise`. The same state of `chance` gives the same copy."""
        edits: list[Edit] = []
        for index, char in enumerate(example.text):
            if char not in _SYLLABLES or char in _KEPT or chance.random() >= rate:
                continue
            kind = chance.random()
            if kind < _DELETED:
                edits.append((index, index + 1, ""))
            elif kind < _DELETED + _INSERTED:
                edits.append((index + 1, index + 1, chance.choice(_FILLERS)))
            elif alike := self._alike(char, chance.random() < _NEAR_SHARE):
                weights = [self._weight[other] for other in alike]
                edits.append((index, index + 1, chance.choices(alike, weights)[0]))
        noisy = edited(example, edits)
        return noisy if noisy.text.strip() else example

    def _alike(self, char: str, near: bool) -> list[str]:
        sound = _SYLLABLES[char]
        sounds = [other for other in _near(sound) if other in self._same] if near else []
        return [other for each in sounds or [sound] for other in self._same[each] if other != char]


def _near(sound: str) -> list[str]:
    """Syllables that many speakers do not tell from this one."""
    found = []
    for one, other in _NOT_TOLD_APART:
        for mine, theirs in ((one, other), (other, one)):
            # "z" begins "zh" too, but is not what it begins with.
            if sound.startswith(mine) and not (len(mine) == 1 and sound[1:2] == "h"):
                found.append(theirs + sound[len(mine) :])
    for one, other in _ENDINGS:
        for mine, theirs in ((one, other), (other, one)):
            if sound.endswith(mine):
                found.append(sound[: -len(mine)] + theirs)
    return found
