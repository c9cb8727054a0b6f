"""A Chinese BERT by path: the layout of bert-base-chinese, small and random."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nlu.encoders import find_encoder
from nlu.engine import NluEngine
from nlu.meaning import Slot
from nlu.tokens import LineReader
from nlu.training import TrainConfig, train
from tests.nlu.conftest import example, write_encoder, write_lines

pytestmark = pytest.mark.unit

DAYS = ("明天", "周五", "下周一", "十二月五号")
PROMISES = ("我{}还", "{}给你们打过去", "等{}发工资再还", "我{}用alipay付")
FAREWELLS = ("再见", "拜拜", "没事了", "就这样吧", "ok再见", "好了挂了")


def vocabulary() -> list[str]:
    """As bert-base-chinese has it: special pieces at 0 and 100-103, characters, figures and Latin pieces."""
    unused = [f"[unused{number}]" for number in range(1, 100)]
    special = ["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = sorted({*"".join((*DAYS, *PROMISES, *FAREWELLS)), *"月号元付"} - {*"{}alipyok"})
    latin = [*"abcdefghijklmnopqrstuvwxyz0123456789", "ali", "##pay", "ok", "12", "##00"]
    return [
        *special,
        *characters,
        *dict.fromkeys(latin),
        *(f"##{char}" for char in "abcdefghijklmnopqrstuvwxyz0123456789元"),
    ]


@pytest.fixture(scope="module")
def chinese_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the encoder."""
    return write_encoder(tmp_path_factory.mktemp("zh-bert") / "encoder", vocabulary=vocabulary())


def test_mixed_text_is_cut_into_characters_and_word_pieces(chinese_bert: Path) -> None:
    files = find_encoder(str(chinese_bert))
    line = LineReader(files.read_tokenizer(), 32).read("我用Alipay付１２００元，OK")
    tokenizer = files.read_tokenizer()
    pieces = [tokenizer.id_to_token(number) for number in line.ids]
    assert pieces == ["[CLS]", "我", "用", "ali", "##pay", "付", "12", "##00", "元", "ok", "[SEP]"]
    assert [line.normal.text[start:end] for start, end in line.words] == [
        "我",
        "用",
        "alipay",
        "付",
        "1200",
        "元",
        "ok",
    ]
    assert (line.ids[0], line.ids[-1]) == (101, 102)


def test_it_is_trained_and_served_by_the_same_commands(chinese_bert: Path, tmp_path: Path) -> None:
    lines = [example(p.format(d), "promise", date=d) for p, d in itertools.product(PROMISES, DAYS)]
    lines += [example(text, "goodbye") for text in FAREWELLS * 3]
    data = write_lines(tmp_path / "examples.jsonl", lines)
    config = TrainConfig(
        train=data, dev=data, out=tmp_path / "m", language="zh", encoder=str(chinese_bert), head_size=64, epochs=60
    )
    summary = train(config)
    assert summary.encoder == str(chinese_bert)
    engine = NluEngine.load(summary.out, "cpu")
    promise, goodbye = engine.predict(["我下周一还。", "好了，再见"], reject=False)
    assert (promise.intent, promise.slots) == ("promise", (Slot("date", "下周一", 1, 4),))
    assert goodbye.intent == "goodbye"
