"""Which bot answers: by name, and by the call's language."""

from __future__ import annotations

from pathlib import Path

import pytest

from dialogue.bots import load_bot
from gateway.calls.bot_choice import UnknownBotError, choose_bot
from tests.gateway.harness import rig, write_bot

pytestmark = pytest.mark.unit

BOTS = {name: load_bot(name) for name in ("bill-reminder", "bill-reminder-zh", "load")}


@pytest.mark.parametrize(
    ("name", "language", "chosen"),
    [
        (None, None, "bill-reminder"),
        (None, "en-GB", "bill-reminder"),
        ("bill-reminder", "zh", "bill-reminder-zh"),
        (None, "zh_CN", "bill-reminder-zh"),
        (None, "yue", "bill-reminder-zh"),  # written alike
        ("bill-reminder-zh", None, "bill-reminder-zh"),
        ("load", "en", "load"),
        ("load", "auto", "load"),  # for the recogniser to find out
        ("bill-reminder-zh", "auto", "bill-reminder-zh"),
    ],
)
def test_a_twin_answers_in_its_language(name: str | None, language: str | None, chosen: str) -> None:
    assert choose_bot(BOTS, name, language).name == chosen


@pytest.mark.parametrize(
    ("name", "language", "fault"),
    [
        ("nobody", None, r"one of those loaded \(bill-reminder, bill-reminder-zh, load\), not 'nobody'"),
        ("load", "zh", "one that bot load or its twin speaks; .*, not 'zh'"),
        ("bill-reminder", "fr", "one that bot bill-reminder or its twin speaks; .*, not 'fr'"),
    ],
)
def test_nobody_answers_in_another_language(name: str, language: str, fault: str) -> None:
    with pytest.raises(UnknownBotError, match=fault):
        choose_bot(BOTS, name, language)


@pytest.mark.parametrize(
    ("language", "greeting"), [("en", "Hello this is the test bot"), ("zh-CN", "您好，这里是测试机器人。")]
)
async def test_a_call_is_greeted_in_its_language(tmp_path: Path, language: str, greeting: str) -> None:
    twin = write_bot(tmp_path / "twin", flow="start: a\nnodes: {a: {say: 您好，这里是测试机器人。, on: {}}}\n")
    manifest = (
        (twin / "bot.yaml")
        .read_text()
        .replace("name: tester", "name: tester-zh")
        .replace("language: en", "language: zh")
    )
    (twin / "bot.yaml").write_text(manifest)
    async with rig(tmp_path) as gateway:
        gateway.services.bots["tester-zh"] = load_bot(str(twin))
        peer = await gateway.peer(start={"language": language})
        assert (await peer.event("prompt"))["text"].startswith(greeting)


async def test_a_call_in_a_language_nobody_speaks_is_told_so(tmp_path: Path) -> None:
    async with rig(tmp_path) as gateway:
        peer = await gateway.peer(start={"language": "fr"})
        error = await peer.event("error")
        assert (error["code"], "not 'fr'" in error["message"]) == ("unknown_bot", True)
