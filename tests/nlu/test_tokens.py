from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nlu.encoders import find_encoder
from nlu.tokens import LineReader, collate

pytestmark = pytest.mark.unit


@pytest.fixture
def reader(encoder: Path) -> LineReader:
    return LineReader(find_encoder(str(encoder)).read_tokenizer(), 16)


def test_words_are_spans_of_the_normal_form_at_their_first_piece(reader: LineReader) -> None:
    line = reader.read("Pay Zoe on MAY 5th, zoe's")
    assert line.normal.text == "pay zoe on may 5th zoe's"
    assert [line.normal.text[start:end] for start, end in line.words] == "pay zoe on may 5th zoe ' s".split()
    # "zoe" is not in the vocabulary: three pieces, of which only the first heads a word.
    assert line.heads == (1, 2, 5, 6, 7, 8, 11, 12)


def test_chinese_characters_are_words_each(reader: LineReader) -> None:
    assert reader.read("我要付").words == ((0, 1), (1, 2), (2, 3))


def test_long_text_is_cut_at_the_limit(reader: LineReader) -> None:
    line = reader.read("pay " * 100)
    assert (len(line.ids), len(line.heads)) == (16, 14)


def test_a_batch_is_padded_to_its_longest_line(reader: LineReader) -> None:
    batch = collate([reader.read("pay bob on friday"), reader.read("bye"), reader.read("?!")])
    assert batch.ids.shape == (3, 6)
    assert batch.mask is not None
    assert batch.mask.sum(dim=1).tolist() == [6, 3, 2]
    assert batch.heads.tolist() == [[1, 2, 3, 4], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert batch.word_counts.tolist() == [4, 1, 1]


def test_lines_of_one_length_need_no_mask(reader: LineReader) -> None:
    batch = collate([reader.read("pay bob"), reader.read("bye dan")])
    assert batch.mask is None
    assert batch.ids.dtype == torch.int64
