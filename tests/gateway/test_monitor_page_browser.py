"""The monitor in a real browser, against a real worker and control plane; only models and voice are scripted."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from audio.files import read_audio
from audio.formats import Pcm16
from bench.crowd import Crowd
from gateway import background
from gateway.access.auth import Scope, mint
from gateway.calls import call_clock
from gateway.monitoring import admission, hub, sockets, supervision
from tests.gateway.harness import DEMO, silence, speech
from tests.gateway.monitor_watch import heard, keeping, over, streaming, turn, watch
from tests.gateway.test_softphone_browser import _NAMELESS, SPEECH, likeness, text, until

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

log = logging.getLogger(__name__)

SECRET = "x" * 40
TONE = (8000 * np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000)).astype(np.int16)

_FRAMES_A_SECOND = """() => new Promise((done) => {
    const begun = performance.now();
    let frames = 0;
    const count = (now) => {
        frames += 1;
        if (now - begun < 1500) requestAnimationFrame(count);
        else done(1000 * frames / (now - begun));
    };
    requestAnimationFrame(count);
})"""
_TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
_INK = """(id) => {
    const canvas = document.getElementById(id);
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return Array.from({length: data.length / 4}, (_, at) => data[4 * at + 3]).filter((alpha) => alpha > 200).length;
}"""
_HEAR_PLAYER = """() => {
    const context = new AudioContext({sampleRate: 8000});
    const tap = context.createScriptProcessor(1024, 2, 2);
    window.played = [];
    tap.onaudioprocess = ({inputBuffer}) => played.push(...inputBuffer.getChannelData(0));
    context.createMediaElementSource(document.getElementById("sound")).connect(tap).connect(context.destination);
}"""
_PRESS = "(id) => { const button = document.getElementById(id); button.disabled = false; button.click() }"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine so busy that a browser's microphone, or a worker, is not heard for seconds hands no call back."""
    monkeypatch.setattr(sockets, "LEASE_S", 120.0)
    monkeypatch.setattr(supervision, "LEASE_S", 120.0)
    monkeypatch.setattr(hub, "_ANSWER_S", 20.0)


async def test_a_call_appears_is_followed_and_ends(tmp_path: Path, redis_url: str) -> None:
    async with watch(tmp_path, redis_url) as here:
        page = await here.page()
        await page.wait_for_selector("#stream[data-state=good] >> text=0 calls")
        await page.wait_for_selector("#nobody >> text=Nobody is on the line")
        peer = await here.call("seen", caller="+1 555 123 4567")
        row = page.locator(".rows .row")
        await row.wait_for()
        assert (await row.inner_text()).split("\n")[:3] == ["[phone]", "seen", "tester"]

        # This machine may see what is hidden, and that is audited.
        await page.click("#raw")
        await page.wait_for_selector(".rows .row a >> text=+1 555 123 4567")
        await page.click("#raw")
        await page.wait_for_selector(".rows .row a >> text=[phone]")
        audited = (await here.floor.api.client.get("/v1/audit")).json()["entries"]
        assert [entry["act"] for entry in audited].count("raw_events") >= 1

        await page.click(".rows .row a")
        await page.wait_for_selector("#call:not([hidden])")
        assert page.url.endswith("/monitor#seen")
        await turn(peer)
        await page.wait_for_selector("#story .line[data-side=caller][data-state=said] >> text=tell me more")
        await page.wait_for_selector("#story .line[data-side=caller] .about >> text=more")
        await page.wait_for_selector("#story .line[data-side=bot] >> text=Tell me more about that")
        await page.wait_for_selector(".rows .row .meaning >> text=more", state="attached")

        # The answer's waterfall.
        stages = await page.locator(".turn[open] .waterfall th").all_inner_texts()
        names = [name for stage in stages if not (name := stage.split("\n")[0]).endswith("queue")]
        assert names == ["Silence awaited", "Recognition", "Understanding", "Dialogue", "Voice", "First audio"]
        assert "ms" in await text(page, ".turn[open] summary b")
        await page.click("summary >> text=Events")
        await page.wait_for_selector("#events li >> text=turn understood")
        assert "keywords" in await text(page, "#facts")  # the model's version

        # Another who comes later is shown what was said.
        late = await here.page("#seen")
        await late.wait_for_selector("#story .line[data-side=caller] >> text=tell me more")

        await peer.say(type="stop")
        await page.wait_for_selector("#where >> text=caller hung up")
        await page.wait_for_selector("#story .line[data-side=note] >> text=Over after")
        assert await page.is_disabled("#take") and await page.is_disabled("#hang-up")

        # A stream that is lost is taken up again, and what was known stays.
        await page.evaluate("() => sockets[sockets.length - 1].close()")
        await page.wait_for_selector("#stream >> text=Connection lost")
        other = await here.call("later")
        await page.wait_for_selector("#stream[data-state=good] >> text=1 call")
        assert await page.locator("#story .line").count() > 2
        await other.say(type="stop")

        # The other views.
        await page.click("#to-health")
        await page.wait_for_selector("#panels >> text=Redis")
        assert "Reply after the tail" in await text(page, "#health-tiles")
        await page.click("#to-outcomes")
        await page.wait_for_selector("#outcome-hint >> text=From the records")


async def test_every_call_is_shown_by_its_own_hosts_clock(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watch(tmp_path, redis_url) as here:
        page = await here.page()
        await page.wait_for_selector("#stream[data-state=good]")
        with monkeypatch.context() as patch:
            patch.setattr(call_clock, "time", SimpleNamespace(time=_an_hour_ahead, monotonic=time.monotonic))
            ahead = await here.call("ahead")
        right = await here.call("right")
        for one in (page, await here.page()):  # the other comes when both have begun
            for call_id in ("ahead", "right"):
                lasted = await text(one, f".row[data-id={call_id}] .lasted")
                assert lasted.count(":") == 1, f"less than an hour: {lasted}"
        await ahead.say(type="stop")
        await page.wait_for_selector(".row[data-id=ahead][data-over=true]")
        await page.click(".row[data-id=right] a")
        assert (await text(page, "#lasted")).count(":") == 1
        await right.say(type="stop")
        await page.wait_for_selector("#where >> text=caller hung up")


def _an_hour_ahead() -> float:
    return time.time() + 3600.0


@pytest.mark.usefixtures("patient")
async def test_what_a_long_call_leaves_out_is_said_and_kept_events_are_shown(tmp_path: Path, redis_url: str) -> None:
    async with watch(tmp_path, redis_url) as here:
        page = await here.page("#long")
        peer = await here.call("long")
        await page.wait_for_selector("#story .line[data-side=bot]")
        assert await page.is_hidden("#missing")
        (session,) = here.floor.calls.worker.sessions
        for _ in range(310):
            session.watch.keyed("5")
        await page.wait_for_selector(
            "#missing >> text=/^1[0-9] earlier lines are not shown: the page keeps the newest 300/"
        )
        assert await page.locator("#story .line").count() == 300
        await page.click("summary >> text=Events")
        await page.wait_for_selector("#events-shown >> text=/^The newest 120 of 3/")
        assert await page.locator("#events li").count() == 120
        await page.click("#all-events")
        await page.wait_for_selector("#events li:nth-child(300)", state="attached")
        assert await page.is_hidden("#all-events")
        await peer.say(type="stop")


async def test_a_supervisor_hears_whispers_speaks_hands_back_and_hangs_up(tmp_path: Path, redis_url: str) -> None:
    async with watch(tmp_path, redis_url) as here:
        peer = await here.call("helped")
        caller = asyncio.create_task(streaming(peer, np.concatenate([TONE, silence(500)])))
        page = await here.page("#helped")
        await page.wait_for_selector("#who >> text=Unknown caller")

        # What the page gets is what the caller sent.
        await page.click("#listen")
        await page.wait_for_selector("#desk >> text=You hear both sides")

        async def has_the_tone() -> bool:
            sound = (await heard(page))[:, 0].astype("<i2").tobytes()
            return TONE[:7000].tobytes() in sound

        await until(has_the_tone)
        await page.wait_for_selector("#buffer >> text=/Buffer [1-9]/")  # and it is being played
        await page.wait_for_selector("#call-alerts >> text=loopback listens")

        await page.fill("#whisper-text", "Offer the ten percent")
        await page.keyboard.press("Enter")
        await until(lambda: any(event.get("text") == "Offer the ten percent" for event in peer.events))
        await page.wait_for_selector("#story .line[data-side=bot] >> text=Offer the ten percent")
        await until(lambda: _is_empty(page, "#whisper-text"))

        # The supervisor's voice reaches the caller.
        before = len(peer.audio)
        await page.click("#take")
        await page.wait_for_selector("#desk >> text=You speak to the caller")
        await page.wait_for_selector("#call-alerts >> text=loopback speaks")
        recordings = {path: read_audio(path, 8000) for path in DEMO.glob("*.wav")}

        async def reached_the_caller() -> bool:
            await asyncio.sleep(0.25)  # to compare is work, which the gateway in this process must not wait for
            sound = np.frombuffer(bytes(peer.audio[before:]), "<i2")
            alike = {path: likeness(sound, said, 8000) for path, said in recordings.items() if len(said) < len(sound)}
            return alike.get(SPEECH, 0.0) > 0.5 and max(alike, key=lambda path: alike[path]) == SPEECH

        await until(reached_the_caller)
        await page.click("#take >> text=Hand back")
        await page.wait_for_selector("#desk >> text=You hear both sides")
        await page.wait_for_selector("#story .line[data-side=note] >> text=handed the call back")

        await page.click("#hang-up")
        assert "hangup" not in peer.kinds()
        await page.click("#hang-up >> text=Really hang up?")
        assert (await peer.event("hangup"))["reason"] == "supervisor"
        await page.wait_for_selector("#where >> text=ended by the bot")
        await page.wait_for_selector("#after-words >> text=Nothing is kept of this call")
        caller.cancel()


async def _is_empty(page: Page, field: str) -> bool:
    return await page.input_value(field) == ""


async def test_what_a_token_allows_is_shown_and_enforced(tmp_path: Path, redis_url: str) -> None:
    environ = {"VOICEGATE_AUTH_SECRET": SECRET}
    async with watch(tmp_path, redis_url, environ=environ) as here:

        def token(*scopes: Scope) -> str:
            return mint(SECRET, "ann", scopes, 600)

        peer = await here.call("guarded", token=token(Scope.CALL))
        page = await here.page("#guarded")
        await page.wait_for_selector("#door-words >> text=show a token with the scope monitor")
        await page.fill("#token", token(Scope.CALL))
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#token-known >> text=lacks the scope monitor")

        await page.fill("#token", token(Scope.MONITOR))
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#desk >> text=it needs the scope supervise")
        assert "token" not in page.url
        for act in ("#take", "#hang-up", "#whisper-send"):
            assert await page.is_disabled(act)
        assert await page.is_hidden("#raw")
        await page.click("#listen")
        await page.wait_for_selector("#desk >> text=You hear both sides")

        # A page that does not keep to it is refused by the gateway, and says so.
        for _ in ("asked", "sure"):
            await page.evaluate(_PRESS, "hang-up")
        await page.wait_for_selector("#desk-problem >> text=does not hold the scope supervise")
        await page.evaluate(_PRESS, "take")
        await page.wait_for_selector("#desk >> text=/^You hear/")
        await page.wait_for_selector("#desk-problem >> text=does not hold the scope supervise")
        assert "hangup" not in peer.kinds()

        boss = await here.page("#guarded")
        await boss.fill("#token", token(Scope.SUPERVISE))
        await boss.keyboard.press("Enter")
        await boss.click("#take")
        await boss.wait_for_selector("#desk >> text=You speak to the caller")
        await page.wait_for_selector("#call-alerts >> text=ann speaks")
        await boss.close()  # whoever leaves hands back
        await page.wait_for_selector("#story .line[data-side=note] >> text=handed the call back")


@pytest.mark.usefixtures("patient")
async def test_a_call_is_taken_from_another_by_name_and_a_token_that_expires_is_asked_for_anew(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(time=time.time)
    monkeypatch.setattr(admission, "time", clock)
    monkeypatch.setattr(sockets, "_LOOK_S", 0.05)
    async with watch(tmp_path, redis_url, environ={"VOICEGATE_AUTH_SECRET": SECRET}) as here:

        async def show(page: Page, who: str, lifetime_s: float) -> None:
            await page.fill("#token", mint(SECRET, who, [Scope.SUPERVISE], lifetime_s))
            await page.keyboard.press("Enter")

        await here.call("shared", token=mint(SECRET, "pbx", [Scope.CALL], 600))
        ann, ben = await here.page("#shared"), await here.page("#shared")
        await show(ann, "ann", 600)
        await show(ben, "ben", 7200)
        await ann.click("#take >> text=/^Take over$/")
        await ann.wait_for_selector("#desk >> text=You speak to the caller")

        # Whoever takes it from somebody sees from whom, and they see who has it.
        await ben.wait_for_selector("#desk >> text=ann speaks to the caller")
        await ben.click("#take >> text=Take over from ann")
        await ben.wait_for_selector("#desk >> text=You speak to the caller")
        await ann.wait_for_selector("#desk-problem >> text=You no longer have the call: ben has the call now.")
        await ann.wait_for_selector("#take >> text=Take over from ben")
        await ann.click("#give-back >> text=Hand back for ben")
        await ben.wait_for_selector("#desk-problem >> text=You no longer have the call: the bot has the call again.")
        await ann.wait_for_selector("#give-back", state="hidden")

        # What the token opened ends with it; nothing goes on with it.
        await ann.click("#take >> text=/^Take over$/")
        await ann.wait_for_selector("#desk >> text=You speak to the caller")
        await ben.wait_for_selector("#take >> text=Take over from ann")
        clock.time = lambda: time.time() + 3600
        await ann.wait_for_selector("#token-known >> text=Your token has expired")
        assert await ann.is_hidden("#floor") and await ann.input_value("#token") == ""
        await ann.wait_for_selector("#stream >> text=Not watching")
        assert await ann.evaluate("() => [document.activeElement.id, sessionStorage.length]") == ["token", 0]
        await ben.wait_for_selector("#take >> text=/^Take over$/")
        opened = await ann.evaluate("() => sockets.length")

        await show(ann, "ann", 7200)
        await ann.wait_for_selector("#stream[data-state=good] >> text=1 call")
        await ann.wait_for_selector("#who >> text=Unknown caller")
        await ann.wait_for_selector("#desk-problem >> text=Your token expired, so the bot has the call again")
        assert await ann.evaluate("() => sockets.length") == opened + 1, "of the sound none, until somebody asks"
        await ann.click("#listen")
        await ann.wait_for_selector("#desk >> text=You hear both sides")
        assert await ann.is_hidden("#desk-problem")


async def test_another_token_sees_nothing_that_the_one_before_was_shown(tmp_path: Path, redis_url: str) -> None:
    number = "five five five one two three four"
    async with watch(tmp_path, redis_url, hear=number, environ={"VOICEGATE_AUTH_SECRET": SECRET}) as here:
        peer = await here.call("told", token=mint(SECRET, "pbx", [Scope.CALL], 600))
        page = await here.page("#told")
        await page.fill("#token", mint(SECRET, "ann", [Scope.MONITOR_RAW], 600))
        await page.keyboard.press("Enter")
        await page.click("#raw")
        await page.wait_for_selector("#raw[aria-pressed=true]")
        await turn(peer)
        await page.wait_for_selector(f"#story >> text={number}")
        await page.evaluate(
            "(token) => { document.getElementById('token').value = token;"
            " document.getElementById('door-form').requestSubmit(); }",
            mint(SECRET, "ben", [Scope.MONITOR], 600),
        )
        await page.wait_for_selector("#story >> text=[phone]")
        assert number not in await page.inner_text("body")
        assert await page.get_attribute("#raw", "aria-pressed") == "false"


async def test_a_call_that_ended_is_replayed_as_it_was_sent_and_can_be_downloaded(
    tmp_path: Path, redis_url: str
) -> None:
    async with watch(tmp_path, redis_url, environ=keeping(tmp_path), keeps=True) as here:
        page = await here.page("#kept:1")
        peer = await here.call("kept:1", caller="+1 555 123 4567", metadata={"recording_consent": "yes"})
        await page.wait_for_selector("#facts >> text=Recorded")
        pcm = np.concatenate([silence(400), speech(), silence(20_000)])
        caller = asyncio.create_task(streaming(peer, pcm))
        await peer.event("prompt", count=2)
        await background.stop([caller])
        await over(here, peer)

        # Nothing is fetched before somebody asks for it, and who does is known.
        await page.wait_for_selector("#after-words >> text=/^Recorded, 0:0.*Who opens it is noted/")
        assert await page.is_hidden("#player") and await page.is_hidden("#acts")
        await page.click("#open-recording")
        await page.wait_for_selector("#player")
        await page.wait_for_selector("#story .line[data-side=caller] >> text=tell me more")
        audited = (await here.floor.api.client.get("/v1/audit")).json()["entries"]
        acts = {(one["who"], one["act"]) for one in audited if one["call_id"] == "kept:1"}
        assert {("loopback", "timeline"), ("loopback", "recording")} <= acts
        for canvas in ("timeline", "whole"):
            assert await page.evaluate(_INK, canvas) > 200, "both sides and their marks are drawn"
        await page.wait_for_selector(".turn[open] .waterfall th >> text=/^Recognition/")

        # By keys.
        await page.focus("#overview")
        await page.keyboard.press("End")
        longest = float(await page.get_attribute("#overview", "aria-valuemax") or 0)
        await until(lambda: _sought(page, longest))
        await page.keyboard.press("Home")
        await page.keyboard.press("ArrowRight")
        await until(lambda: _sought(page, 1))
        assert str(await page.get_attribute("#overview", "aria-valuetext")).startswith("0:01 of 0:0")

        for following in ("play", "speed", "download"):
            await page.keyboard.press("Tab")
            assert await page.evaluate("() => document.activeElement.id") == following
        await page.set_viewport_size({"width": 360, "height": 740})
        await page.evaluate(_TWO_FRAMES)
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= 360
        assert await page.evaluate(_NAMELESS) == []

        # From a line, and with the mouse.
        await page.click("#story .line[data-side=caller] .seek")
        await page.wait_for_selector("#caption[data-side=caller] >> text=Caller: tell me more")
        await page.wait_for_selector("#story .line[data-side=caller][aria-current=true]")
        await page.click("#overview", position={"x": 11, "y": 20})
        await until(lambda: _sought(page, 0))

        # What is heard is what the caller sent.
        await page.evaluate(_HEAR_PLAYER)
        await page.click("#play")
        await page.wait_for_selector("#play >> text=Pause")
        await page.wait_for_selector("#play >> text=Play")
        played = np.array(await page.evaluate("() => played"), np.float32)
        recordings = {path: read_audio(path, 8000) for path in DEMO.glob("*.wav")}
        alike = {path: likeness(_pcm(played), said, 8000) for path, said in recordings.items()}
        assert max(alike, key=lambda path: alike[path]) == SPEECH and alike[SPEECH] > 0.8, alike

        async with page.expect_download() as downloading:
            await page.click("#download")
        download = await downloading.value
        assert download.suggested_filename == "kept_1.wav"
        (recorded,) = (tmp_path / "recordings").glob("*.wav")
        await download.save_as(tmp_path / "downloaded.wav")
        assert (tmp_path / "downloaded.wav").read_bytes() == recorded.read_bytes()
        stereo, rate = soundfile.read(recorded, dtype="int16")
        assert rate == 8000 and speech().tobytes() in np.ascontiguousarray(stereo[:, 0]).tobytes()

        # Another day it is found among those that ended; the records tell how it went.
        late = await here.page("#/outcomes")
        await late.wait_for_selector("#outcome-tiles .tile >> text=of 1 turns")
        await late.fill("#ended-query", "tester hung up")
        await late.click("#ended-recorded")
        await late.click("#ended-rows a >> text=kept:1")
        await late.wait_for_selector("#where >> text=caller hung up")
        await late.click("#open-recording")
        await late.wait_for_selector("#who >> text=[phone]")
        await late.wait_for_selector("#player")
        await late.click("#to-calls")
        await until(lambda: _is_let_go(late))


async def test_why_a_call_cannot_be_heard_is_said(tmp_path: Path, redis_url: str) -> None:
    environ = keeping(tmp_path, VOICEGATE_AUTH_SECRET=SECRET)
    async with watch(tmp_path, redis_url, environ=environ, keeps=True) as here:

        def token(*scopes: Scope) -> str:
            return mint(SECRET, "ann", scopes, 600)

        for call_id, metadata in (("agreed", {"recording_consent": "yes"}), ("silent", None)):
            await over(here, await here.call(call_id, metadata=metadata, token=token(Scope.CALL)))

        watcher = await here.page("#agreed")
        await watcher.fill("#token", token(Scope.MONITOR))
        await watcher.keyboard.press("Enter")
        await watcher.wait_for_selector("#after-words >> text=that needs the scope recordings")
        assert await watcher.is_hidden("#open-recording") and await watcher.is_hidden("#player")
        bearer = {"Authorization": f"Bearer {token(Scope.MONITOR)}"}
        assert (await here.floor.api.client.get("/v1/recordings?call=agreed", headers=bearer)).status_code == 403

        auditor = await here.page("#agreed")
        await auditor.fill("#token", token(Scope.MONITOR, Scope.RECORDINGS))
        await auditor.keyboard.press("Enter")
        await auditor.wait_for_selector("#open-recording")
        for path in (tmp_path / "recordings").iterdir():
            path.unlink()
        await auditor.click("#open-recording")
        await auditor.wait_for_selector("#after-problem >> text=There is no such recording")
        for call_id, words in (
            ("silent", "had not agreed"),
            ("agreed", "was erased, or another host"),
            ("never", "Nothing is kept"),
        ):
            await auditor.evaluate("(id) => { location.hash = id }", call_id)
            await auditor.wait_for_selector(f"#after-words >> text={words}")


async def _is_let_go(page: Page) -> bool:
    return bool(await page.evaluate("() => document.getElementById('sound').src === ''"))


async def _sought(page: Page, second: float) -> bool:
    return abs(float(await page.get_attribute("#overview", "aria-valuenow") or -1) - second) < 0.5


def _pcm(samples: np.ndarray[Any, Any]) -> Pcm16:
    return (np.clip(samples, -1, 1) * 32767).astype(np.int16)


async def test_hundreds_of_calls_fit_every_screen_and_stay_smooth(tmp_path: Path, redis_url: str) -> None:
    async with watch(tmp_path, redis_url) as here:
        page = await here.page(viewport={"width": 1440, "height": 900})
        await page.wait_for_selector("#stream[data-state=good]")
        crowd = asyncio.create_task(Crowd(300).run(redis_url, events_per_s=300))
        try:
            await page.wait_for_selector("#counted >> text=300")
            assert await page.locator(".rows .row").count() < 40, "only the rows in sight exist"
            frames = await page.evaluate(_FRAMES_A_SECOND)
            log.info("%.0f frames a second with 300 calls and 300 events a second", frames)
            assert frames > 5, "above 30 where nothing else runs: python -m bench.monitor_page"

            # Found, by keys alone.
            await page.keyboard.press("/")
            await page.keyboard.type("crowd-277")
            await page.wait_for_selector("#counted >> text=1 of 300")
            await page.fill("#query", "")
            await page.wait_for_selector("#counted >> text=/^300$/")
            await page.focus(".rows .row a")
            await page.keyboard.press("End")
            await until(lambda: _focused_row(page, "301"))
            await page.keyboard.press("Enter")
            await page.wait_for_selector("#call:not([hidden])")
            assert await page.evaluate("() => document.activeElement.id") == "who"

            for width, scheme in ((1920, "light"), (768, "dark"), (360, "light")):
                await page.set_viewport_size({"width": width, "height": 740})
                await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                for fragment in ("#", "#crowd-007", "#/health", "#/outcomes"):
                    await page.evaluate("(fragment) => { location.hash = fragment }", fragment)
                    await page.evaluate(_TWO_FRAMES)
                    assert await page.evaluate("() => document.documentElement.scrollWidth") <= width, fragment
                    assert await page.evaluate(_NAMELESS) == []
        finally:
            await background.stop([crowd])


async def _focused_row(page: Page, index: str) -> bool:
    return bool(await page.evaluate("() => document.activeElement.closest('.row')?.ariaRowIndex") == index)
