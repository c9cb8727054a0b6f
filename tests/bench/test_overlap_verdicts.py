"""The promise of docs/performance.md: wordings that the lists were not made from are judged as a person would."""

from __future__ import annotations

import pytest

from bench.overlap_verdicts import Wording, rows, wordings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("kind", ["backchannel", "interruption", "hello"])
def test_nineteen_of_twenty_are_judged_right(kind: str) -> None:
    row = rows(wordings("test"))[kind, "", "all"]
    assert row.said >= 28 and row.share >= 0.95, row.wrong


def test_no_backchannel_of_the_test_is_in_what_the_lists_were_extended_by() -> None:
    written = [{one.text for one in wordings(split) if one.source == "written"} for split in ("dev", "test")]
    assert written[0] and written[1] and not written[0] & written[1]


def test_what_was_said_often_counts_often() -> None:
    said = [
        Wording(text=text, kind="backchannel", language="en", source="x", count=n) for text, n in (("mm", 3), ("no", 1))
    ]
    row = rows(said)["backchannel", "en", "x"]
    assert (row.wordings, row.said, row.share, row.wrong) == (2, 4, 0.75, ["no"])
