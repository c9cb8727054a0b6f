"""What Locust's users say, how fast, and what they take for an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.text_callers import ScriptError, conversations, fault_of, talking_s

pytestmark = pytest.mark.unit


def written(path: Path, *lines: Any) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def test_conversations_are_kept_and_single_texts_dealt_out(tmp_path: Path) -> None:
    singles = [{"text": f"text {n}", "intent": "any", "slots": []} for n in range(7)]
    file = written(tmp_path / "texts.jsonl", {"texts": ["one", "two"]}, *singles, {"text": "no", "intent": "oos"})
    first = conversations(file, rounds=3, seed=1)
    assert first[0] == ["one", "two"]
    assert [len(script) for script in first[1:]] == [3, 3, 1]
    assert sorted(sum(first[1:], [])) == [f"text {n}" for n in range(7)]
    assert conversations(file, rounds=3, seed=1) == first != conversations(file, rounds=3, seed=2)


@pytest.mark.parametrize("line", ["text", {"text": 7}, {"texts": []}, {"texts": ["a", 1]}, {"texts": "abc"}, {}, []])
def test_a_line_that_is_neither_is_named(tmp_path: Path, line: Any) -> None:
    file = written(tmp_path / "texts.jsonl", {"text": "fine"}, line)
    with pytest.raises(ScriptError, match=r"texts\.jsonl:2: must be"):
        conversations(file, rounds=3, seed=0)


def test_a_file_without_texts(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="holds no texts"):
        conversations(written(tmp_path / "texts.jsonl", {"text": "no", "intent": "oos"}), rounds=3, seed=0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("i can pay on friday", 2), ("well - yes", 0.8), ("我要查余额吧谢谢你", 2), ("查 bill 吧", 0.84)],
)
def test_talking_takes_as_long_as_people_take(text: str, seconds: float) -> None:
    assert talking_s(text) == pytest.approx(seconds, abs=0.01)


@given(st.text(), st.text())
def test_more_text_takes_no_less_time(text: str, more: str) -> None:
    assert 0 <= talking_s(text) <= talking_s(f"{text} {more}")


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"uid": "a", "seq": 1, "score": 0.5}, None),
        ({"uid": "a", "seq": 1, "score": 1}, None),
        ({"uid": "a", "seq": 1, "score": 0.49}, "score below 0.5"),
        ({"uid": "a", "seq": 1}, "no score"),
        ({"uid": "a", "seq": 2, "score": 1.0}, "seq is not the request's"),
        ({"score": 1.0}, "uid is not the request's"),
    ],
)
def test_what_is_wrong_with_an_answer(answer: dict[str, Any], fault: str | None) -> None:
    assert fault_of(answer, asked={"uid": "a", "seq": 1, "query": "yes"}, min_score=0.5) == fault
