from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from nlu.data import Example
from nlu.meaning import OUT_OF_SCOPE, Meaning, Slot
from nlu.report import Report, build_report, rejection_curve
from nlu.report_page import page

pytestmark = pytest.mark.unit


def slot(name: str, start: int) -> Slot:
    return Slot(name, "x", start, start + 1)


@pytest.fixture
def report() -> Report:
    lines = [
        (Example("t", "pay", (slot("date", 0),), 1), Meaning("pay", 0.95, (slot("date", 0),)), 2.0),
        (Example("t", "pay", (slot("date", 0),), 2), Meaning("<bye>", 0.55, (slot("date", 1),)), 1.0),
        (Example("t", "pay", (), 3), Meaning("<bye>", 0.52), 1.5),
        (Example("t", "<bye>", (), 4), Meaning(OUT_OF_SCOPE, 0.4), -1.0),
        (Example("t", OUT_OF_SCOPE, (), 5), Meaning(OUT_OF_SCOPE, 0.3), -2.0),
    ]
    examples, meanings, scores = zip(*lines, strict=True)
    return build_report(examples, meanings, scores, model="m", version="v1", data="<d>.jsonl")


def test_labels_are_counted(report: Report) -> None:
    bye, oos, pay = report.intents
    assert (bye.name, bye.n, bye.given, bye.right) == ("<bye>", 1, 2, 0)
    assert (pay.name, pay.precision, pay.recall, pay.f1) == ("pay", 1.0, 1 / 3, 0.5)
    assert (oos.name, oos.precision, oos.recall) == (OUT_OF_SCOPE, 0.5, 1.0)
    (date,) = report.slots
    assert (date.n, date.given, date.right, date.f1) == (2, 2, 1, 0.5)


def test_confusions_name_lines_commonest_first(report: Report) -> None:
    first, second = report.confusions
    assert (first.gold, first.given, first.n, first.lines) == ("pay", "<bye>", 2, (2, 3))
    assert (second.gold, second.given) == ("<bye>", OUT_OF_SCOPE)


def test_calibration_counts_lines_in_scope_that_were_kept(report: Report) -> None:
    low, high = report.calibration
    assert (low.low, low.n, low.accuracy) == (0.5, 2, 0.0)
    assert low.score == pytest.approx(0.535)
    assert (high.n, high.accuracy) == (1, 1.0)
    assert report.calibration_error == pytest.approx((2 * 0.535 + 0.05) / 3)


def test_the_curve_rises_with_what_is_given_up() -> None:
    points = rejection_curve([float(i) for i in range(100)], [-1.0, 1.5, 4.5, 1000.0])
    by_loss = {point.lost: point.recall for point in points}
    assert (by_loss[0.01], by_loss[0.03], by_loss[0.05]) == (0.25, 0.5, 0.75)
    assert [p.recall for p in points] == sorted(p.recall for p in points)
    assert rejection_curve([1.0], []) == ()


def test_json_has_all_and_no_text(report: Report) -> None:
    document = json.loads(report.as_json())
    assert document["evaluation"]["n"] == 5
    assert document["intents"][2]["f1"] == 0.5
    assert document["confusions"][0]["lines"] == [2, 3]
    assert "text" not in report.as_json()


def test_the_page_is_whole_and_escaped(report: Report) -> None:
    class Balanced(HTMLParser):
        open_tags: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "path", "line"):
                self.open_tags.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            pass

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

    html = page(report)
    parser = Balanced()
    parser.feed(html)
    assert parser.open_tags == []
    assert "&lt;bye&gt;" in html
    assert "<bye>" not in html
    assert html.count("<svg") == 2
    assert "http" not in html
