"""An outage is told once, with its cause where that quotes nobody, and so is its end."""

from __future__ import annotations

import logging
import socket

import pytest
from redis.exceptions import ConnectionError as ConnectionLostError
from redis.exceptions import RedisError, ResponseError

from dialogue.connection import connect
from gateway.outage_log import OutageLog

pytestmark = pytest.mark.unit

log = logging.getLogger("gateway.tests")


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, log.name)
    return caplog


def test_each_outage_is_told_once_and_so_is_its_end(heard: pytest.LogCaptureFixture) -> None:
    outage = OutageLog(log, "counting")
    outage.over()
    for _ in range(2):
        for error in (ConnectionLostError("gone"), TimeoutError()):
            outage.failed(error)
        outage.over()
        outage.over()
    assert (
        heard.messages
        == [
            "counting: ConnectionError (gone); is Redis running and reachable? Trying again",
            "counting: goes on",
        ]
        * 2
    )


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (socket.gaierror(-2, "Name or service not known"), "gaierror ([Errno -2] Name or service not known)"),
        (TimeoutError(), "TimeoutError"),
        (ResponseError("unknown command, with args beginning with: my aardvark"), "ResponseError"),
        (RedisError("aardvark"), "RedisError"),
    ],
)
def test_what_redis_says_of_a_command_is_not_quoted(
    error: Exception, cause: str, heard: pytest.LogCaptureFixture
) -> None:
    OutageLog(log, "counting").failed(error)
    assert heard.messages == [f"counting: {cause}; is Redis running and reachable? Trying again"]


async def test_the_address_is_told_without_its_password(heard: pytest.LogCaptureFixture) -> None:
    client = connect("redis://me:hunter2@127.0.0.1:1/0", timeout_s=20)
    with pytest.raises(ConnectionLostError) as caught:
        await client.ping()
    await client.aclose()
    OutageLog(log, "counting").failed(caught.value)
    assert "127.0.0.1:1" in heard.text
    assert "hunter2" not in heard.text
