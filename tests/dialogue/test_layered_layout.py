"""Layouts: nothing lies over anything, edges lead down, and few of them cross."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.layered_layout import Edge, Layout, Size, lay_out

pytestmark = pytest.mark.unit

names = st.integers(0, 9).map(str)
graphs = st.lists(st.builds(Edge, names, names), max_size=25)


def laid(edges: list[Edge], start: str = "0") -> tuple[dict[str, Size], Layout]:
    found = dict.fromkeys([start, *(end for edge in edges for end in (edge.tail, edge.head))])
    sizes = {name: Size(100.0 + 10 * int(name), 40.0 + 5 * int(name)) for name in found}
    return sizes, lay_out(sizes, edges, start=start)


@given(graphs)
def test_no_box_lies_over_another_and_all_are_on_the_page(edges: list[Edge]) -> None:
    sizes, layout = laid(edges)
    boxes = [
        (at.x - size.width / 2, at.y - size.height / 2, at.x + size.width / 2, at.y + size.height / 2)
        for at, size in ((layout.places[name], size) for name, size in sizes.items())
    ]
    for i, (left, top, right, bottom) in enumerate(boxes):
        assert left >= -1e-6 and top >= -1e-6 and right <= layout.width + 1e-6 and bottom <= layout.height + 1e-6
        for other_left, other_top, other_right, other_bottom in boxes[i + 1 :]:
            apart = right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
            assert apart


@given(graphs)
def test_every_edge_has_a_route_of_one_direction(edges: list[Edge]) -> None:
    _, layout = laid(edges)
    assert set(layout.routes) == {edge for edge in edges if edge.tail != edge.head}
    for edge, route in layout.routes.items():
        ys = [layout.places[edge.tail].y, *(at.y for at in route), layout.places[edge.head].y]
        assert ys in (sorted(set(ys)), sorted(set(ys), reverse=True))


@given(graphs)
def test_the_same_graph_gives_the_same_places(edges: list[Edge]) -> None:
    assert laid(edges) == laid(edges)


def test_a_chain_leads_straight_down_and_a_way_back_leads_up() -> None:
    _, layout = laid([Edge("0", "1"), Edge("1", "2"), Edge("2", "0")])
    places = [layout.places[name] for name in "012"]
    assert places[0].y < places[1].y < places[2].y
    assert len(layout.routes[Edge("2", "0")]) == 1  # past the row between


def test_what_can_be_drawn_without_crossings_is() -> None:
    crossed = [Edge("0", "1"), Edge("0", "2"), Edge("0", "3"), Edge("1", "6"), Edge("2", "5"), Edge("3", "4")]
    _, layout = laid(crossed)
    upper = sorted("123", key=lambda name: layout.places[name].x)
    lower = sorted("654", key=lambda name: layout.places[name].x)
    assert lower == [{"1": "6", "2": "5", "3": "4"}[name] for name in upper]


def test_one_box() -> None:
    _, layout = laid([])
    assert (layout.width, layout.height, layout.routes) == (100.0, 40.0, {})
