"""Who answers whom while versions come and go: by values, with the clock as an argument."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlu.meaning import Meaning
from nlu.pool import Former, LoadedVersion, ModelPool, PoolError, TurnId, VersionState, call_share

pytestmark = pytest.mark.unit


class Engine:
    """Stands for what answers."""


def loaded(version: str, now: float = 0.0) -> LoadedVersion[Engine]:
    return LoadedVersion(version=version, path=f"/models/{version}", engine=Engine(), since=now)


def pool(version: str = "v1") -> ModelPool[Engine]:
    return ModelPool("bot", loaded(version))


def shadow(models: ModelPool[Engine], version: str = "v2") -> LoadedVersion[Engine]:
    added = loaded(version)
    models.add_shadow(added)
    return added


def asked(models: ModelPool[Engine], turn: TurnId | None, now: float = 0.0, *, score: float = 0.5) -> str:
    """The version that answers one request."""
    version = models.begin(turn, now)
    models.answered(version, now, seconds=0.01, meaning=Meaning("pay", score))
    return version.version


def states(models: ModelPool[Engine]) -> dict[str, VersionState]:
    return {version.version: version.state for version in models.versions}


def test_a_shadow_answers_nobody_until_it_goes_live() -> None:
    models = pool()
    added = shadow(models)
    assert asked(models, TurnId("c", 1)) == asked(models, None) == "v1"
    models.make_live(added, 1.0)
    assert asked(models, TurnId("c", 2)) == asked(models, None) == "v2"
    assert states(models) == {"v1": VersionState.RETIRING, "v2": VersionState.LIVE}
    models.make_live(added, 2.0)
    assert states(models)["v2"] is VersionState.LIVE, "live twice is live"


def test_a_turn_is_answered_by_one_version_whatever_goes_live_in_between() -> None:
    models = pool()
    added = shadow(models)
    assert asked(models, TurnId("c", 7)) == "v1"
    models.make_live(added, 1.0)
    assert asked(models, TurnId("c", 7)) == "v1", "the endpoint of the turn whose speculation it has answered"
    assert asked(models, TurnId("d", 7)) == "v2"
    assert asked(models, TurnId("c", 8)) == "v2"


def test_a_turn_goes_on_elsewhere_when_its_version_is_gone() -> None:
    models = pool()
    assert asked(models, TurnId("c", 1)) == "v1"
    models.make_live(shadow(models), 1.0)
    assert [v.version for v in models.handle_timer(31.0)] == ["v1"]
    assert asked(models, TurnId("c", 1), 32.0) == "v2"


def test_a_version_that_was_replaced_goes_30_s_after_its_last_request() -> None:
    models = pool()
    assert models.get_timer() is None
    assert asked(models, TurnId("c", 1), 99.0) == "v1"
    models.make_live(shadow(models), 100.0)
    assert models.get_timer() == 130.0
    old = models.begin(TurnId("c", 1), 120.0)  # the turn that it had begun
    assert old.version == "v1"
    assert models.handle_timer(160.0) == [], "a request is still on its way"
    models.gave_up(old, 170.0)
    assert models.get_timer() == 200.0
    assert models.handle_timer(199.9) == []
    assert [v.version for v in models.handle_timer(200.0)] == ["v1"]
    assert (states(models), models.get_timer()) == ({"v2": VersionState.LIVE}, None)


def test_nothing_here_keeps_an_unloaded_version_alive() -> None:
    models = pool()
    old = weakref.ref(models.live.engine)
    for number in range(50):
        asked(models, TurnId(f"c{number}", 1))
    models.make_live(shadow(models), 1.0)
    models.handle_timer(31.0)
    gc.collect()
    assert old() is None


def test_a_canary_has_its_share_of_the_calls_and_always_the_same_ones() -> None:
    models = pool()
    models.make_canary(shadow(models), 0.2, 1.0)
    calls = [f"call-{number}" for number in range(2000)]
    tried = {call for call in calls if asked(models, TurnId(call, 1)) == "v2"}
    assert 300 < len(tried) < 500
    assert {call for call in calls if asked(models, TurnId(call, 2)) == "v2"} == tried
    assert models.canary is not None
    models.make_canary(models.canary, 0.5, 2.0)
    wider = {call for call in calls if asked(models, TurnId(call, 3)) == "v2"}
    assert tried < wider and 850 < len(wider) < 1150
    assert asked(models, None) == "v1"


@pytest.mark.parametrize(("share", "version"), [(0.0, "v1"), (1.0, "v2")])
def test_none_of_the_calls_and_all_of_them(share: float, version: str) -> None:
    models = pool()
    models.make_canary(shadow(models), share, 1.0)
    assert {asked(models, TurnId(f"c{number}", 1)) for number in range(200)} == {version}


@given(st.text())
def test_a_call_stands_at_one_place_within_0_and_1(call_id: str) -> None:
    assert 0.0 <= call_share(call_id) < 1.0
    assert call_share(call_id) == call_share(call_id)


def test_a_canary_is_promoted() -> None:
    models = pool()
    models.make_canary(shadow(models), 0.5, 1.0)
    models.promote(2.0)
    assert states(models) == {"v1": VersionState.RETIRING, "v2": VersionState.LIVE}
    assert (models.canary, models.share) == (None, 0.0)
    with pytest.raises(PoolError, match="no version is on trial"):
        models.promote(3.0)


def test_a_canary_is_rolled_back_and_its_turns_end_with_it() -> None:
    models = pool()
    models.make_canary(shadow(models), 1.0, 1.0)
    assert asked(models, TurnId("c", 1)) == "v2"
    assert models.rollback(2.0) is None
    assert states(models) == {"v1": VersionState.LIVE, "v2": VersionState.RETIRING}
    assert asked(models, TurnId("c", 1)) == "v2"
    assert asked(models, TurnId("c", 2)) == "v1"


def test_a_second_canary_takes_the_place_of_the_first() -> None:
    models = pool()
    models.make_canary(shadow(models, "v2"), 1.0, 1.0)
    models.make_canary(shadow(models, "v3"), 1.0, 2.0)
    assert states(models) == {"v1": VersionState.LIVE, "v2": VersionState.RETIRING, "v3": VersionState.CANARY}
    assert asked(models, TurnId("c", 1)) == "v3"


def test_a_swap_is_rolled_back_at_once_while_the_old_version_is_in_memory() -> None:
    models = pool()
    models.make_live(shadow(models), 1.0)
    assert models.rollback(2.0) is None
    assert states(models) == {"v1": VersionState.LIVE, "v2": VersionState.RETIRING}
    assert models.rollback(3.0) is None, "forth and back"
    assert models.live.version == "v2"


def test_a_swap_whose_old_version_is_gone_names_what_to_load() -> None:
    models = pool()
    models.make_live(shadow(models), 1.0)
    models.handle_timer(31.0)
    assert models.rollback(40.0) == Former("v1", "/models/v1")
    again = shadow(models, "v1")
    models.make_live(again, 41.0)
    assert models.live is again


def test_without_a_version_before_there_is_nothing_to_roll_back_to() -> None:
    with pytest.raises(PoolError, match="none was live before"):
        pool().rollback(1.0)


def test_a_shadow_that_is_not_fit_leaves_no_trace() -> None:
    models = pool()
    models.discard(shadow(models))
    assert states(models) == {"v1": VersionState.LIVE}
    with pytest.raises(PoolError, match="none was live before"):
        models.rollback(1.0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_within_0_and_1(share: float) -> None:
    models = pool()
    with pytest.raises(PoolError, match="from 0 to 1"):
        models.make_canary(shadow(models), share, 1.0)


def test_what_is_live_is_no_canary() -> None:
    models = pool()
    with pytest.raises(PoolError, match="live already"):
        models.make_canary(models.live, 0.5, 1.0)


def test_where_a_canary_fails_the_live_version_is_asked_for_the_rest_of_the_turn() -> None:
    models = pool()
    models.make_canary(shadow(models), 1.0, 1.0)
    turn = TurnId("c", 1)
    tried = models.begin(turn, 2.0)
    assert models.failed(tried, turn, 2.0)
    assert asked(models, turn) == "v1"
    assert asked(models, TurnId("c", 2)) == "v2"
    live = models.begin(None, 3.0)
    assert not models.failed(live, None, 3.0)
    assert {v.version: v.errors for v in models.versions} == {"v1": 1, "v2": 1}


def test_figures_are_kept_by_version() -> None:
    models = pool()
    asked(models, TurnId("a", 1), score=0.9)
    models.make_canary(shadow(models), 1.0, 1.0)
    for call, meaning in (("a", Meaning("pay", 0.8)), ("b", Meaning("oos", 0.2))):
        version = models.begin(TurnId(call, 2), 2.0)
        models.answered(version, 2.0, seconds=0.02, meaning=meaning)
    models.gave_up(models.begin(TurnId("c", 1), 2.0), 2.0)
    live, canary = models.statuses(10.0)
    assert (live.bot, live.version, live.state, live.share) == ("bot", "v1", VersionState.LIVE, 0.0)
    assert (live.requests, live.errors, live.mean_score, live.oos_share) == (1, 0, 0.9, 0.0)
    assert (canary.requests, canary.mean_score, canary.oos_share) == (2, pytest.approx(0.5), 0.5)
    assert canary.mean_ms == pytest.approx(20.0)
    assert (canary.path, canary.share, canary.loaded_s) == ("/models/v2", 1.0, 10.0)
    assert pool().statuses(1.0)[0].mean_score is None


def test_the_turns_remembered_are_bounded() -> None:
    models = pool()
    for number in range(10_050):
        asked(models, TurnId(f"c{number}", 1))
    models.make_live(shadow(models), 1.0)
    assert asked(models, TurnId("c0", 1)) == "v2", "long forgotten"
    assert asked(models, TurnId("c10049", 1)) == "v1"
