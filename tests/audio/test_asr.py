"""Pieces of a text as one."""

from __future__ import annotations

import pytest

from audio.asr import join_words

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ((), ""),
        (("", "yes", ""), "yes"),
        (("four four", "one"), "four four one"),
        (("尾号是四四", "一七"), "尾号是四四一七"),
        (("用 iPhone", "打电话"), "用 iPhone 打电话"),
        (("好的，", "再见"), "好的，再见"),
    ],
)
def test_words_are_joined_as_their_script_writes_them(parts: tuple[str, ...], whole: str) -> None:
    assert join_words(*parts) == whole
