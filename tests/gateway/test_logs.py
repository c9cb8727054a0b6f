"""Every record of a call names it, in both forms; a line is a line for a machine."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
from collections.abc import Iterator

import pytest

from gateway import logs
from gateway.logs import CallLog, call_id_var, configure

pytestmark = pytest.mark.unit

log = logging.getLogger("gateway.tests")


@pytest.fixture(autouse=True)
def root_logger_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in logs._OURS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger("asyncio").removeFilter(logs._NO_LATE_LOOKUP)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


async def test_records_below_a_calls_task_carry_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text", process="worker 3")

    async def call(name: str) -> None:
        call_id_var.set(name)
        await asyncio.sleep(0)
        log.info("heard %d samples", 320)

    await asyncio.gather(asyncio.create_task(call("a-1")), asyncio.create_task(call("b-2")))
    log.info("nobody's")
    one, two, none = lines(capsys)
    assert "worker 3 [a-1] gateway.tests: heard 320 samples" in one
    assert "[b-2]" in two
    assert "[-]" in none


def test_records_from_callbacks_carry_the_id_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text", process="worker 0")
    known = ""
    of_call = CallLog(log, lambda: known)
    of_call.info("before")
    known = "c-9"
    call_id_var.set("-")
    of_call.warning("after %s", "it")
    before, after = lines(capsys)
    assert "[-]" in before
    assert "WARNING worker 0 [c-9] gateway.tests: after it" in after


def test_json_is_one_object_a_line_whatever_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json", process="worker 1")
    log.info("größe %s", "line\nbreak \x00")
    CallLog(log, lambda: "c-1").error("no")
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("failed")
    plain, of_call, failed = (json.loads(line) for line in lines(capsys))
    assert plain["message"].startswith("größe line\nbreak")
    assert {key: plain[key] for key in ("level", "process", "logger", "call_id")} == {
        "level": "info",
        "process": "worker 1",
        "logger": "gateway.tests",
        "call_id": "-",
    }
    assert len(plain["time"]) == len("2026-01-01T00:00:00.000Z")
    assert (of_call["call_id"], of_call["level"]) == ("c-1", "error")
    assert "exception" not in of_call
    assert "ValueError: broken" in failed["exception"]


@pytest.mark.parametrize(("level", "seen"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_holds(level: str, seen: int, capsys: pytest.CaptureFixture[str]) -> None:
    configure(level, "text", process="p")
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(number, "x")
    assert len(lines(capsys)) == seen


def test_libraries_do_not_quote_what_goes_over_their_wires(capsys: pytest.CaptureFixture[str]) -> None:
    """`voicegate sip` is a client of websockets, which writes every frame into its log at that level."""
    configure("debug", "text", process="p")
    logging.getLogger("websockets.client").debug("< TEXT '{...}'")
    logging.getLogger("websockets.client").info("connection open")
    log.debug("ours")
    assert [line.rpartition(": ")[2] for line in lines(capsys)] == ["connection open", "ours"]


def test_configuring_twice_does_not_write_twice(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text", process="p")
    configure("info", "text", process="p")
    log.info("once")
    assert len(lines(capsys)) == 1


def test_a_lookup_that_nobody_waits_for_any_more_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    """As uvloop does it: `create_connection` was given up, and the name is found to be unknown later."""
    configure("info", "text", process="worker 0")
    loop = asyncio.new_event_loop()
    for error in (socket.gaierror(-3, "Temporary failure in name resolution"), ValueError("another")):
        lookup = loop.create_future()
        lookup.set_exception(error)
        del lookup
        gc.collect()
    loop.close()
    told = "\n".join(lines(capsys))
    assert "name resolution" not in told
    assert "Future exception was never retrieved" in told and "ValueError: another" in told
