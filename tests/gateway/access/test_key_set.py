"""An identity provider's keys: which are taken, when the set is read again, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access import key_set as module
from gateway.access.key_set import KeySet, KeySetError, RefreshPlan, parse_key_set
from tests.gateway.provider import jwk, key_set, private_key, provider

pytestmark = pytest.mark.unit

EC = {"kty": "EC", "crv": "P-256", "kid": "ec", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9"}
HMAC = {"kty": "oct", "kid": "hmac", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "alg": "HS256"}


# Which keys are taken.


def test_rsa_keys_for_signatures_are_taken_and_all_others_passed_over() -> None:
    document = key_set(
        jwk("a"),
        jwk("b", use=None, alg=None),
        jwk("c", use="enc"),
        jwk("d", alg="RS512"),
        jwk("weak", 1024),
        jwk("f", n=None),
        jwk("g", n="***"),
        EC,
        HMAC,
    )
    keys = parse_key_set(document)
    assert set(keys) == {"a", "b"}
    assert keys["a"].public_numbers() == private_key("a").public_key().public_numbers()


def test_a_private_key_in_the_set_is_used_for_its_public_half() -> None:
    (key,) = parse_key_set(key_set(jwk("a", d="AQAB", p="AQAB"))).values()
    assert key.public_numbers() == private_key("a").public_key().public_numbers()


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "no JWK Set"),
        (b"<html>", "no JWK Set"),
        (b"[]", "no JWK Set"),
        (b'{"keys": 3}', "no JWK Set"),
        (b'{"keys": ["a"]}', "no JWK Set"),
        (key_set(), "no RSA key"),
        (key_set(EC, HMAC), "no RSA key"),
        (key_set(jwk("weak", 1024)), "2048 bits"),
    ],
)
def test_what_is_no_usable_set(document: bytes, why: str) -> None:
    with pytest.raises(KeySetError, match=why):
        parse_key_set(document)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_a_set_or_an_error(value: Any) -> None:
    for document in (value, {"keys": value}, {"keys": [value]}, {"keys": [{"kty": "RSA", "n": value, "e": value}]}):
        with pytest.raises(KeySetError):
            parse_key_set(json.dumps(document).encode())


# When it is read again.


def test_a_set_is_read_at_once_then_every_ten_minutes() -> None:
    plan = RefreshPlan(100.0, loaded=False)
    assert plan.due == 100.0
    plan.succeeded(101.0)
    assert plan.due == 701.0
    assert RefreshPlan(100.0, loaded=True).due == 700.0


def test_failures_are_tried_again_soon_then_less_often_and_a_success_forgets_them() -> None:
    plan, now, pauses = RefreshPlan(0.0, loaded=False), 0.0, []
    for _ in range(8):
        plan.failed(now)
        pauses.append(plan.due - now)
        now = plan.due
    assert pauses == [1, 2, 5, 10, 30, 60, 60, 60]
    plan.succeeded(now)
    plan.failed(now + 600)
    assert plan.due == now + 601


@given(st.lists(st.floats(0, 30), max_size=100))
def test_unknown_keys_bring_a_read_forward_but_one_a_minute_at_most(steps: list[float]) -> None:
    plan, now, reads = RefreshPlan(0.0, loaded=True), 0.0, [0.0]
    for step in steps:
        now += step
        plan.unknown_key(now)
        assert plan.due <= now + 60
        if plan.due <= now:
            plan.succeeded(now)
            reads.append(now)
    assert all(later - earlier > 59.999 for earlier, later in zip(reads, reads[1:], strict=False))


# From a file and from an address.


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


def test_a_file_is_read_here_and_now(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with pytest.raises(KeySetError, match=r"auth\.jwks: no key set from .*keys\.json"):
        KeySet(str(path))
    path.write_bytes(b"{}")
    with pytest.raises(KeySetError, match=r"keys\.json gives is no JWK Set"):
        KeySet(str(path))
    path.write_bytes(key_set(jwk("a")))
    assert KeySet(str(path)).find("a") is not None


async def test_keys_are_found_by_id_and_the_only_one_without(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(key_set(jwk("a")))
    assert KeySet(str(path)).find(None) is not None
    path.write_bytes(key_set(jwk("a"), jwk("b")))
    two = KeySet(str(path))
    assert two.find("b") is not None
    assert two.find("c") is None and two.find(None) is None


async def test_a_rotated_key_is_fetched_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNKNOWN_EVERY_S", 0.0)
    with provider() as identities:
        identities.document = key_set(jwk("a"))
        async with KeySet(identities.url) as keys:
            await until(lambda: keys.find("a") is not None)
            identities.document = key_set(jwk("b"))
            assert keys.find("b") is None  # and nobody waits for it
            await until(lambda: keys.find("b") is not None)
            assert keys.find("a") is None  # taken back by the provider


async def test_invented_key_ids_cost_the_provider_nothing() -> None:
    with provider() as identities:
        identities.document = key_set(jwk("a"))
        async with KeySet(identities.url) as keys:
            await until(lambda: keys.find("a") is not None)
            asked = identities.asked
            for number in range(100):
                assert keys.find(f"invented-{number}") is None
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            assert identities.asked == asked == 1


async def test_a_provider_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FETCH_TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "_RETRY_S", (0.01,))
    with provider() as identities:
        identities.document = key_set(jwk("a"))
        identities.hang.clear()
        async with KeySet(identities.url) as keys:
            await until(lambda: identities.asked > 0)
            begun = asyncio.get_running_loop().time()
            assert keys.find("a") is None
            assert asyncio.get_running_loop().time() - begun < 0.1
            identities.hang.set()
            await until(lambda: keys.find("a") is not None)


@pytest.mark.parametrize(
    ("status", "headers", "document"),
    [
        (500, {}, b""),
        (200, {}, b"<html>"),
        (200, {}, key_set()),
        (302, {"Location": "/elsewhere"}, key_set(jwk("b"))),
        (200, {}, b" " * (300 * 1024) + key_set(jwk("b"))),
    ],
)
async def test_a_bad_answer_keeps_the_keys_there_are(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
    headers: dict[str, str],
    document: bytes,
) -> None:
    monkeypatch.setattr(module, "UNKNOWN_EVERY_S", 0.0)
    monkeypatch.setattr(module, "_RETRY_S", (60.0,))
    with provider() as identities:
        identities.document = key_set(jwk("a"))
        async with KeySet(identities.url + "?key=password") as keys:
            await until(lambda: keys.find("a") is not None)
            identities.status, identities.headers, identities.document = status, headers, document
            with caplog.at_level(logging.WARNING):
                assert keys.find("b") is None
                await until(lambda: "1 keys known before are used" in caplog.text)
            assert keys.find("a") is not None and keys.find("b") is None
            assert "127.0.0.1" in caplog.text and "password" not in caplog.text


async def test_an_address_where_nobody_is(caplog: pytest.LogCaptureFixture) -> None:
    async with KeySet("http://127.0.0.1:1/keys") as keys:
        await until(lambda: "is it there?" in caplog.text)
        assert keys.find("a") is None
