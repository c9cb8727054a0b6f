from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nlu.characters import Characters
from nlu.engine import NluEngine
from nlu.labels import SlotTags
from nlu.meaning import Slot
from nlu.model import HeadConfig, JointModel
from nlu.tokens import LineReader, collate
from nlu.training import TrainConfig, TrainingSummary, train
from tests.nlu.conftest import example, write_lines

pytestmark = pytest.mark.unit

DAYS = ("明天", "周五", "下周一", "十二月五号", "月底", "三天后")
SUMS = ("三百块", "四十五块五", "1200元", "一百二")
PROMISES = ("我{}还", "{}给你们打过去", "等{}发工资再还")
PAYMENTS = ("先还{}", "我付{}可以吗", "只能给{}")
FAREWELLS = ("再见", "拜拜", "没事了", "就这样吧", "谢谢再见", "好了挂了")


@pytest.fixture(scope="module")
def reader() -> LineReader:
    return LineReader(Characters().read_tokenizer(), 32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingSummary:
    """A model for a bot of three intents, from nothing but its examples."""
    lines = [example(p.format(d), "promise", date=d) for p, d in itertools.product(PROMISES, DAYS)]
    lines += [example(p.format(s), "pay", amount=s) for p, s in itertools.product(PAYMENTS, SUMS)]
    lines += [example(text, "goodbye") for text in FAREWELLS * 2]
    folder = tmp_path_factory.mktemp("zh")
    data = write_lines(folder / "examples.jsonl", lines)
    return train(TrainConfig(train=data, dev=data, out=folder / "model", language="zh", epochs=25))


def test_a_character_is_a_word_and_latin_words_and_figures_are_whole(reader: LineReader) -> None:
    line = reader.read("我要付４５.5元给Zoe")
    assert [line.normal.text[start:end] for start, end in line.words] == [*"我要付", "45", ".", "5", "元", "给", "zoe"]
    assert len(line.ids) == 2 + len("我要付45.5元给zoe")


def test_simplified_and_traditional_characters_are_known(reader: LineReader) -> None:
    unknown = Characters().read_tokenizer().token_to_id("[UNK]")
    assert unknown not in reader.read("账单賬單還款还款").ids
    assert unknown in reader.read("한").ids


def test_a_lines_scores_do_not_depend_on_its_batch(reader: LineReader) -> None:
    torch.manual_seed(0)
    encoder = Characters().read_encoder()
    for table in encoder.layers[0].children():
        if isinstance(table, torch.nn.Embedding):
            torch.nn.init.normal_(table.weight)
    model = JointModel(encoder, HeadConfig(intents=3, tags=SlotTags(("a", "b")))).eval()
    lines = [reader.read(text) for text in ("再见", "我下周五发工资再还你们钱", "转人工吧")]
    with torch.inference_mode():
        intents, tags, _ = model(collate(lines))
        for row, line in enumerate(lines):
            alone_intents, alone_tags, _ = model(collate([line]))
            torch.testing.assert_close(intents[row], alone_intents[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(tags[row, : len(line.words)], alone_tags[0], atol=1e-5, rtol=1e-5)


def test_a_character_knows_its_neighbours() -> None:
    pairs = Characters().read_encoder().embeddings
    here, swapped = pairs(torch.tensor([[5, 6, 7]])), pairs(torch.tensor([[7, 6, 5]]))
    assert here[0, 1, 0] == swapped[0, 1, 0]
    assert here[0, 1, 1:].tolist() != swapped[0, 1, 1:].tolist()
    assert int(pairs(torch.randint(9000, (50, 40))).max()) < 16384


def test_only_what_was_seen_moves(reader: LineReader) -> None:
    """So a character that training never met is the zero vector, and not noise."""
    model = JointModel(Characters().read_encoder(), HeadConfig(intents=2, tags=SlotTags(("a",))))
    intents, tags, _ = model(collate([reader.read("还款")]))
    (intents.sum() + tags.square().sum()).backward()
    moved = model.bert.layers[0].character.weight.grad.abs().sum(dim=1).nonzero().flatten()
    assert set(moved.tolist()) <= set(reader.read("还款").ids)
    assert len(moved) > 0


def test_a_chinese_model_needs_no_hub(trained: TrainingSummary, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    assert trained.encoder == "characters"
    engine = NluEngine.load(trained.out, "cpu")
    promise, pay, goodbye = engine.predict(["我下周一还。", "先还４５.50元", "好了，再见"], reject=False)
    assert (promise.intent, promise.slots) == ("promise", (Slot("date", "下周一", 1, 4),))
    assert (pay.intent, pay.slots) == ("pay", (Slot("amount", "４５.50元", 2, 8),))
    assert (goodbye.intent, goodbye.slots) == ("goodbye", ())


def test_the_artefact_is_small_and_holds_all_that_was_learnt(trained: TrainingSummary) -> None:
    assert trained.size_bytes < 5_000_000
    stored = load_file(Path(trained.out) / "model.safetensors")
    assert stored["bert.layers.0.character.weight"].dtype is torch.int8
    assert stored["bert.layers.0.character.weight"].shape[0] == Characters().read_config().vocab_size
