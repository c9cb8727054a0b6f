"""What becomes of a public set's turns."""

from __future__ import annotations

import pytest

from bench.crosswoz import example, lines

pytestmark = pytest.mark.unit

GREET = ("General", "greet", "none", "none")
ASK = ("Request", "酒店", "电话", "")


def told(slot: str, value: str) -> tuple[str, str, str, str]:
    return ("Inform", "酒店", slot, value)


def test_values_are_slots_and_the_request_is_the_intent() -> None:
    assert example("你好，4.5分以上的酒店电话多少", [GREET, told("评分", "4.5分以上"), ASK]) == {
        "text": "你好，4.5分以上的酒店电话多少",
        "intent": "Request-酒店",
        "slots": [{"name": "酒店-评分", "start": 3, "end": 9}],
    }


@pytest.mark.parametrize(
    ("acts", "intent"),
    [([GREET], "General-greet"), ([GREET, told("评分", "4分")], "Inform-酒店"), ([ASK], "Request-酒店")],
)
def test_the_intent_is_what_a_turn_does_besides_telling(acts: list[tuple[str, str, str, str]], intent: str) -> None:
    line = example("你好，评分4分", acts)
    assert line is not None and line["intent"] == intent


@pytest.mark.parametrize(
    "acts",
    [
        [told("评分", "5分")],  # not in the text
        [told("酒店设施-吹风机", "是")],
        [ASK, ("Request", "餐馆", "电话", "")],
        [],
    ],
)
def test_turns_that_do_not_fit_one_line_are_left_out(acts: list[tuple[str, str, str, str]]) -> None:
    assert example("你好，是评分4分", acts) is None


def test_only_users_turns_count() -> None:
    said = {"content": "电话多少", "dialog_act": [ASK]}
    dialogue: dict[str, list[dict[str, object]]] = {"messages": [{"role": "usr", **said}, {"role": "sys", **said}]}
    assert [line["text"] for line in lines([dialogue])] == ["电话多少"]
