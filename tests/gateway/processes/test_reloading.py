"""What a new reading of settings and bots means for the processes that run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dialogue.bots import BotError
from gateway.processes.reloading import BotPrint, Kind, Plan, fingerprints, plan_reload
from gateway.settings import Settings, load
from tests.gateway.harness import FLOW, write_bot

pytestmark = pytest.mark.unit

ALL = frozenset(Kind)
CALLS = frozenset((Kind.WORKER, Kind.CONTROL))


def settings(**flags: Any) -> Settings:
    return load(environ={}, flags={name.replace("__", "."): value for name, value in flags.items()})


def plan(new: Settings, *, now: Settings | None = None, everything: bool = False) -> Plan:
    return plan_reload(now or settings(), new, {}, {}, everything=everything)


@pytest.mark.parametrize(
    ("name", "value", "exchanged"),
    [
        ("turns__filler_ms", 900, {Kind.WORKER}),
        ("api__concurrency", 3, {Kind.CONTROL}),
        ("limits__calls_per_worker", 7, CALLS),
        ("auth__secret", "x" * 40, CALLS),
        ("nlu__engines", 2, ALL),  # the models are new, and who asks them comes to the new ones
        ("log_level", "debug", ALL),
        ("workers", 4, set()),  # `serve` starts or drains some; nobody else knows the number
        ("supervision__hang_s", 20.0, set()),
    ],
)
def test_processes_that_read_a_setting_are_exchanged_for_it(name: str, value: object, exchanged: set[Kind]) -> None:
    made = plan(settings(**{name: value}))
    assert made.exchanged == exchanged
    assert made.changed == (name.replace("__", "."),) and made.kept == ()


def test_every_setting_is_of_some_process_or_of_serve_alone() -> None:
    """An area that nobody thought of is read by workers and the control plane: too many, never too few but models."""
    readers = {name: plan_reload(settings(), _changed(name), {}, {}).exchanged for name in Settings.model_fields}
    assert {name for name, kinds in readers.items() if not kinds} == {
        "host", "port", "control_port", "workers", "supervision",
    }  # fmt: skip
    assert {name for name, kinds in readers.items() if Kind.INFERENCE in kinds} == {
        "bot", "bots", "log_level", "log_format", "asr", "nlu", "inference",
    }  # fmt: skip


def _changed(name: str) -> Settings:
    """The defaults, with something else in one area; values need not be sound for a comparison."""
    now = settings()
    area = getattr(now, name)
    if not hasattr(type(area), "model_fields"):
        return now.model_copy(update={name: object()})
    # The last field: the first of `redis` cannot change.
    return now.model_copy(update={name: area.model_copy(update={list(type(area).model_fields)[-1]: object()})})


def test_what_cannot_change_stays_and_is_told_with_the_reason() -> None:
    made = plan(settings(port=1, redis__url="redis://elsewhere", turns__filler_ms=900))
    assert made.changed == ("turns.filler_ms",)
    assert made.settings == settings(turns__filler_ms=900)
    assert [kept.partition(":")[0] for kept in made.kept] == ["port", "redis.url"]
    assert "elsewhere" not in "".join(made.kept), "an address may hold a password"


def test_a_gateway_without_workers_gets_none_for_the_media_port_may_be_anothers() -> None:
    without = settings(workers=0, inference__seam="streams", redis__url="redis://there")
    made = plan(without.model_copy(update={"workers": 2}), now=without)
    assert (made.changed, made.settings.workers) == ((), 0)
    assert made.kept[0].startswith("workers: ")


def test_nothing_changed_is_nothing_to_do_unless_everything_is_asked_for() -> None:
    assert plan(settings()).is_empty
    assert plan(settings(), everything=True).exchanged == ALL


def test_a_bots_flow_is_of_workers_and_its_models_are_of_inference() -> None:
    now = {"bot": BotPrint(files=1, models=1)}
    flow = plan_reload(settings(), settings(), now, {"bot": BotPrint(files=2, models=1)})
    assert (flow.exchanged, flow.changed) == (CALLS, ("bot bot",))
    models = plan_reload(settings(), settings(), now, {"bot": BotPrint(files=2, models=2)})
    assert models.exchanged == ALL


def test_a_bots_files_are_known_again_until_one_changes(tmp_path: Path) -> None:
    bot = write_bot(tmp_path / "bot")
    name = str(bot)
    before = fingerprints((name,))
    assert fingerprints((name,)) == before
    (bot / "flow.yaml").write_text(FLOW.replace("NO_INPUT", "never").replace("Good bye", "Farewell"))
    after = fingerprints((name,))
    assert after[name].files != before[name].files and after[name].models == before[name].models
    (bot / "nlu").mkdir()
    (bot / "nlu" / "config.json").write_text("{}")
    trained = fingerprints((name,))
    assert trained[name].models != after[name].models


def test_a_link_that_is_set_elsewhere_is_a_change(tmp_path: Path) -> None:
    bot = write_bot(tmp_path / "bot")
    for version, size in (("1", 10), ("2", 20)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "weights").write_bytes(bytes(size))
    (bot / "nlu").symlink_to(tmp_path / "1")
    before = fingerprints((str(bot),))[str(bot)]
    (bot / "nlu").unlink()
    (bot / "nlu").symlink_to(tmp_path / "2")
    assert fingerprints((str(bot),))[str(bot)].models != before.models
    os.symlink("nowhere", bot / "broken")
    fingerprints((str(bot),))


def test_a_bot_that_cannot_be_used_is_told_with_its_faults(tmp_path: Path) -> None:
    bot = write_bot(tmp_path / "bot")
    (bot / "flow.yaml").write_text("start: nowhere\n")
    with pytest.raises(BotError, match=r"flow\.yaml"):
        fingerprints((str(bot),))
