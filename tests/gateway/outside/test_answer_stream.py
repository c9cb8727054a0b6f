"""A streamed answer, read: the same in pieces of any size, in whole sentences, within bounds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.outside.answer_stream import AnswerError, Delta, EventReader, SentenceCutter, delta_of
from tests.gateway.chat_model import chunk

pytestmark = pytest.mark.unit


def in_pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


STREAM = (
    ": a comment\r\nevent: message\r\nid: 7\r\ndata: one\r\ndata:  two\r\n\r\n"
    "retry: 10\n\ndata:三\n\n\ndata\n\ndata: last\rdata:!\r\r"
).encode()


@given(st.lists(st.integers(0, 200), max_size=12))
def test_events_do_not_depend_on_how_they_were_cut(cuts: list[int]) -> None:
    reader = EventReader()
    found = [event for piece in in_pieces(STREAM, cuts) for event in reader.push(piece)]
    assert found == ["one\n two", "三", "last\n!"]


def test_an_event_that_is_not_complete_is_none() -> None:
    assert EventReader().push(b"data: half") == []


@pytest.mark.parametrize("sent", [b"data: \xff\xfe\n\n", b"data: " + b"x" * 70_000, b"data: y\n" * 70_000])
def test_what_no_model_sends_is_refused(sent: bytes) -> None:
    with pytest.raises(AnswerError):
        EventReader().push(sent)


def test_a_stream_without_end_is_refused() -> None:
    reader = EventReader()
    with pytest.raises(AnswerError, match="too long"):
        for _ in range(100_000):
            reader.push(b": keep alive\n\n")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (chunk("Hello")[6:-2].decode(), Delta("Hello")),
        ('{"choices": [{"delta": {"role": "assistant"}}]}', Delta()),
        ('{"choices": [{"delta": {"content": null}, "finish_reason": null}]}', Delta()),
        ('{"choices": [{"delta": {}, "finish_reason": "stop"}]}', Delta("", True)),
        ('{"choices": [{"delta": {"content": "and"}, "finish_reason": "length"}]}', Delta("and", False)),
        ('{"choices": [{"delta": {"tool_calls": [{"function": {"name": "pay"}}]}}]}', Delta()),
        ('{"choices": [], "usage": {"total_tokens": 9}}', Delta()),
        (" [DONE] ", Delta("", True)),
    ],
)
def test_an_event_is_read(data: str, expected: Delta) -> None:
    assert delta_of(data) == expected


@pytest.mark.parametrize(
    "data",
    ["", "{", "[]", "3", "null", '{"error": {"message": "overloaded"}}', '{"choices": 5}', '{"choices": [3]}',
     '{"choices": [{"delta": null}]}', '{"choices": [{"delta": {"content": 5}}]}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_chunk_is_an_error_of_ours(data: str) -> None:
    with pytest.raises(AnswerError, match="no chunk"):
        delta_of(data)


KEYS = st.sampled_from(["choices", "delta", "content", "finish_reason", "x"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12))
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        assert isinstance(delta_of(json.dumps(value)), Delta)
    except AnswerError:
        pass


def cut(text: str, cuts: list[int], max_chars: int = 300) -> list[str]:
    cutter = SentenceCutter(max_chars)
    marks = sorted({at % (len(text) + 1) for at in cuts} | {len(text)})
    pieces = [text[start:end] for start, end in zip([0, *marks], marks, strict=False)]
    return [sentence for piece in pieces for sentence in cutter.push(piece)] + cutter.finish()


@given(st.lists(st.integers(0, 300), max_size=20))
def test_sentences_do_not_depend_on_how_the_text_came(cuts: list[int]) -> None:
    text = 'It is $84.50, due at 5 p.m. today. "Really?" Yes... 好的。您可以去营业厅！谢谢'
    assert cut(text, cuts) == [
        "It is $84.50, due at 5 p.m.",
        "today.",
        '"Really?"',
        "Yes...",
        "好的。",
        "您可以去营业厅！",
        "谢谢",
    ]


def test_a_sentence_is_given_as_soon_as_it_is_whole() -> None:
    cutter = SentenceCutter(300)
    assert cutter.push("You can pay by car") == []
    assert cutter.push("d. Or") == ["You can pay by card."]
    assert cutter.push(" at a post office.") == []
    assert cutter.finish() == ["Or at a post office."]


def test_markup_is_not_spoken() -> None:
    assert cut("**Yes.** See `this` <b>page</b>:\n\n# One\n- [card](x)\u0007.  ", []) == [
        "Yes.",
        "See this bpage/b: One - card(x).",
    ]
    assert cut("*** --- ... !!! ", []) == []


@given(st.text(alphabet="ab .!。", max_size=400), st.integers(20, 100))
def test_no_more_is_given_than_was_asked_for(text: str, max_chars: int) -> None:
    assert sum(map(len, cut(text, [], max_chars))) <= max_chars


def test_what_would_be_too_long_ends_the_answer() -> None:
    cutter = SentenceCutter(20)
    assert cutter.push("It is so. This one would be far too long to say. Short. ") == ["It is so."]
    assert cutter.full and cutter.push("Short. ") == [] and cutter.finish() == []


def test_a_sentence_without_end_ends_the_answer() -> None:
    cutter = SentenceCutter(300)
    for _ in range(500):
        cutter.push("and then ")
    assert cutter.full
