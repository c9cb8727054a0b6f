"""Drawings of flows: well-formed, complete, and safe with any text."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from dialogue.bots import bundled_bots, load_bot
from dialogue.flow import Prompt
from dialogue.flow_graph import ANYWHERE, flow_edges, flow_svg
from dialogue.layered_layout import Edge
from tests.dialogue.bot_calls import BILL_REMINDER

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"
FLOW = BILL_REMINDER.flow


def texts(svg: str) -> list[str]:
    return [str(element.text) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", bundled_bots())
def test_every_node_of_every_bundled_bot_is_drawn_with_its_name(name: str) -> None:
    bot = load_bot(name)
    assert set(bot.flow.nodes) <= set(texts(flow_svg(bot.flow, name)))


def test_what_leads_from_node_to_node() -> None:
    edges = flow_edges(FLOW)
    assert edges[Edge("greet", "check_account")] == ["affirm"]
    assert edges[Edge("tell_bill", "offer_help")] == ["deny", "not_sure"]
    assert edges[Edge("ask_promise_date", "confirm_promise")] == ["then"]
    assert edges[Edge("promised", "anything_else")] == [""]
    assert edges[Edge("anything_else", "goodbye")] == ["deny", "silence"]
    assert edges[Edge(ANYWHERE, "transfer_to_person")] == ["speak_to_person", "0"]
    assert edges[Edge(ANYWHERE, "nobody_there")] == ["silence"]
    assert edges[Edge(ANYWHERE, "transfer_confused")] == ["not understood"]


def test_tooltips_have_every_word() -> None:
    titles = [str(element.text) for element in ElementTree.fromstring(flow_svg(FLOW, "x")).iter(f"{SVG}title")]
    for node in FLOW.nodes.values():
        for prompt in (*node.say, *node.ask, *node.invalid):
            assert any(prompt.text in title for title in titles)
    assert "greet → check_account: affirm" in titles


def test_text_that_would_break_the_drawing_is_harmless() -> None:
    greet = replace(FLOW.nodes["greet"], say=(Prompt(text='<b>"A & B"</b> <script>alert(1)</script>'),))
    svg = flow_svg(replace(FLOW, nodes={**FLOW.nodes, "greet": greet}), '<i>"&')
    assert ElementTree.fromstring(svg).find(f".//{SVG}script") is None
    assert '<i>"&' in texts(svg)


def test_a_flow_of_one_node() -> None:
    assert "listening" in texts(flow_svg(load_bot("load").flow, "load"))
