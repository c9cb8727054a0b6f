"""Tokens: minting, every way to show one, every way to be refused, and what the log and the peer see."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import typer
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner
from websockets.datastructures import Headers

from gateway.access.auth import Authenticator, AuthError, Identity, Refusal, Scope, WeakSecretError, mint
from gateway.cli.token import parse_lifetime, register
from gateway.settings import AuthSettings
from tests.gateway.provider import ISSUER, jwk, key_set, private_key, provider, signed_token

pytestmark = pytest.mark.unit

SECRET = "0123456789abcdef" * 4
OTHER_SECRET = "fedcba9876543210" * 4
ELSEWHERE = "192.0.2.7"


def signed() -> Authenticator:
    return Authenticator(AuthSettings(secret=SecretStr(SECRET)))


def shared(*tokens: str) -> Authenticator:
    return Authenticator(AuthSettings(tokens=tuple(SecretStr(token) for token in tokens)))


def bearer(token: str) -> Headers:
    return Headers({"Authorization": f"Bearer {token}"})


def basic(password: str, user: str = "asterisk") -> Headers:
    return Headers({"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()})


def refused(authenticator: Authenticator, headers: Headers, target: str = "/v1/call", **options: Scope) -> AuthError:
    with pytest.raises(AuthError) as caught:
        authenticator.authenticate(headers, target, ELSEWHERE, **options)
    return caught.value


@pytest.mark.parametrize("way", ["bearer", "basic", "query"])
def test_a_minted_token_opens_in_every_way(way: str) -> None:
    token = mint(SECRET, "pbx-1", [Scope.CALL], 60)
    headers = {"bearer": bearer(token), "basic": basic(token), "query": Headers()}[way]
    target = f"/v1/call?bot=load&token={token}" if way == "query" else "/v1/call"
    assert signed().authenticate(headers, target, ELSEWHERE) == Identity("pbx-1", frozenset({Scope.CALL}))


def test_a_fixed_token_opens_for_calls_only() -> None:
    gate = shared("first-shared-token", "second-shared-token")
    identity = gate.authenticate(Headers(), "/asterisk?token=second-shared-token", ELSEWHERE)
    assert identity == Identity("shared-2", frozenset({Scope.CALL}))
    assert refused(gate, bearer("second-shared-token"), scope=Scope.ADMIN).refusal is Refusal.MISSING_SCOPE
    assert refused(gate, bearer("second-shared-toke")).refusal is Refusal.UNKNOWN_TOKEN


def test_fixed_and_signed_tokens_live_side_by_side() -> None:
    gate = Authenticator(AuthSettings(secret=SecretStr(SECRET), tokens=(SecretStr("a-shared-token"),)))
    assert gate.authenticate(bearer("a-shared-token"), "/", ELSEWHERE).subject == "shared-1"
    assert gate.authenticate(bearer(mint(SECRET, "ann", [Scope.CALL], 60)), "/", ELSEWHERE).subject == "ann"


def test_admin_holds_the_other_scopes_and_they_do_not_hold_each_other() -> None:
    gate = signed()
    for held, wanted in [
        (Scope.ADMIN, Scope.CALL),
        (Scope.ADMIN, Scope.MONITOR),
        (Scope.ADMIN, Scope.CHAT),
        (Scope.CALL, Scope.CHAT),
        (Scope.CHAT, Scope.CHAT),
        (Scope.MONITOR, Scope.MONITOR),
    ]:
        token = mint(SECRET, "ann", [held], 60)
        assert gate.authenticate(bearer(token), "/", ELSEWHERE, scope=wanted).subject == "ann"
    error = refused(gate, bearer(mint(SECRET, "ann", [Scope.CALL], 60)), scope=Scope.MONITOR)
    assert (error.refusal, error.status, error.headers) == (Refusal.MISSING_SCOPE, 403, {})
    assert "ann" in str(error) and "monitor" in str(error)
    for held, wanted in [(Scope.CHAT, Scope.CALL), (Scope.MONITOR, Scope.CHAT), (Scope.CALL, Scope.ADMIN)]:
        assert refused(gate, bearer(mint(SECRET, "ann", [held], 60)), scope=wanted).refusal is Refusal.MISSING_SCOPE


NOW = time.time()
EXPIRED = mint(SECRET, "ann", [Scope.CALL], 60, now=NOW - 3600)
FUTURE = mint(SECRET, "ann", [Scope.CALL], 60, now=NOW + 3600)
FOREIGN = mint(OTHER_SECRET, "ann", [Scope.CALL], 3600)
CLAIMS = {"sub": "ann", "scope": "call", "iat": int(NOW), "exp": int(NOW) + 3600}
UNSIGNED = jwt.encode(CLAIMS, None, algorithm="none")
OTHER_ALGORITHM = jwt.encode(CLAIMS, SECRET * 2, algorithm="HS512")
ENDLESS = jwt.encode({"sub": "ann", "scope": "call", "iat": int(NOW)}, SECRET, algorithm="HS256")


@pytest.mark.parametrize(
    ("headers", "target", "refusal"),
    [
        (Headers(), "/v1/call", Refusal.NO_TOKEN),
        (Headers(), "/v1/call?token=", Refusal.NO_TOKEN),
        (Headers({"Authorization": "Bearer "}), "/", Refusal.NO_TOKEN),
        (Headers({"Authorization": "Digest username=x"}), "/", Refusal.NO_TOKEN),
        (basic(""), "/", Refusal.NO_TOKEN),
        (Headers({"Authorization": "Basic ***"}), "/", Refusal.MALFORMED),
        (Headers({"Authorization": "Basic /////w=="}), "/", Refusal.MALFORMED),
        (Headers([("Authorization", "Bearer a"), ("Authorization", "Bearer b")]), "/", Refusal.MALFORMED),
        (Headers(), "/?token=a&token=b", Refusal.MALFORMED),
        (Headers(), "/?" + "&".join(f"k{n}=v" for n in range(100)), Refusal.MALFORMED),
        (bearer("not.a.token"), "/", Refusal.MALFORMED),
        (bearer("x" * 5000), "/", Refusal.MALFORMED),
        (bearer(UNSIGNED), "/", Refusal.MALFORMED),
        (bearer(OTHER_ALGORITHM), "/", Refusal.MALFORMED),
        (bearer(ENDLESS), "/", Refusal.MALFORMED),
        (bearer(EXPIRED), "/", Refusal.EXPIRED),
        (bearer(FUTURE), "/", Refusal.NOT_YET_VALID),
        (bearer(FOREIGN), "/", Refusal.WRONG_SIGNATURE),
        (bearer(FOREIGN), "/?token=" + mint(SECRET, "ann", [Scope.CALL], 60), Refusal.WRONG_SIGNATURE),
    ],
)
def test_every_refusal_has_its_own_word_and_the_same_answer(headers: Headers, target: str, refusal: Refusal) -> None:
    error = refused(signed(), headers, target)
    assert (error.refusal, error.status) == (refusal, 401)
    assert error.headers == {"WWW-Authenticate": 'Bearer realm="voicegate"'}
    assert str(error).startswith(refusal)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=60))
def test_what_a_peer_sends_is_never_in_the_message(noise: str) -> None:
    for headers, target in [(bearer(noise), "/"), (basic(noise), "/"), (Headers(), f"/?token={noise}")]:
        assert noise not in str(refused(signed(), headers, target))


@pytest.mark.parametrize("token", ["b\xe9arer-token", "\udc80\udcff-token"])
def test_bytes_that_are_no_text_are_malformed(token: str) -> None:
    """What a socket's bytes decode to, under Latin-1 or surrogateescape."""
    with pytest.raises(AuthError) as caught:
        signed().authenticate({"Authorization": f"Bearer {token}"}, "/", ELSEWHERE)
    assert caught.value.refusal is Refusal.MALFORMED


def test_unknown_scopes_are_ignored_and_no_scope_allows_nothing() -> None:
    odd = jwt.encode({**CLAIMS, "scope": "call fly"}, SECRET, algorithm="HS256")
    assert signed().authenticate(bearer(odd), "/", ELSEWHERE).scopes == {Scope.CALL}
    for scope in ("", 7, ["call"]):
        token = jwt.encode({**CLAIMS, "scope": scope}, SECRET, algorithm="HS256")
        assert refused(signed(), bearer(token)).refusal is Refusal.MISSING_SCOPE


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_without_authentication_this_machine_may_do_everything(peer: str) -> None:
    gate = Authenticator(AuthSettings())
    assert not gate.required
    assert gate.authenticate(Headers(), "/", peer, scope=Scope.ADMIN).subject == "loopback"


@pytest.mark.parametrize("peer", ["192.168.1.4", "0.0.0.0", "::", "::ffff:10.0.0.1", "", "localhost.evil"])
def test_without_authentication_nobody_else_may(peer: str) -> None:
    with pytest.raises(AuthError) as caught:
        Authenticator(AuthSettings()).authenticate(bearer("anything"), "/", peer)
    assert (caught.value.refusal, caught.value.status) == (Refusal.NOT_LOOPBACK, 403)


def test_with_authentication_loopback_needs_a_token_too() -> None:
    with pytest.raises(AuthError) as caught:
        signed().authenticate(Headers(), "/", "127.0.0.1")
    assert caught.value.refusal is Refusal.NO_TOKEN


def test_a_secret_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(WeakSecretError, match="openssl rand -hex 32"):
        mint("x" * 31, "ann", [Scope.CALL], 60)
    with pytest.raises(WeakSecretError, match="31 bytes"):
        Authenticator(AuthSettings(secret=SecretStr("x" * 31)))


@pytest.mark.parametrize(
    ("subject", "scopes", "lifetime_s"), [("", [Scope.CALL], 1), ("a", [], 1), ("a", list(Scope), 0)]
)
def test_a_token_needs_a_subject_a_scope_and_a_lifetime(subject: str, scopes: list[Scope], lifetime_s: float) -> None:
    with pytest.raises(ValueError, match="a token needs"):
        mint(SECRET, subject, scopes, lifetime_s)


# Tokens of an identity provider.


def federated(folder: Path, *keys: str, **settings: Any) -> Authenticator:
    """Trusts these keys of the provider; and the secret, if one is given."""
    path = folder / "keys.json"
    path.write_bytes(key_set(*map(jwk, keys)))
    given = {"issuer": ISSUER, "audience": "voicegate", **settings}
    return Authenticator(AuthSettings(jwks=str(path), **given))


def test_a_provider_s_token_opens_in_every_way(tmp_path: Path) -> None:
    gate = federated(tmp_path, "one", "two")
    assert gate.required
    for headers, target in [
        (bearer(signed_token("one")), "/"),
        (basic(signed_token("two")), "/"),
        (Headers(), f"/?token={signed_token('one', iat=None)}"),
    ]:
        identity = gate.authenticate(headers, target, ELSEWHERE, scope=Scope.CHAT)
        assert identity == Identity("crm", frozenset({Scope.CHAT}))


def test_scopes_as_providers_write_them(tmp_path: Path) -> None:
    gate = federated(tmp_path, "one")
    for claims in ({"scope": "openid chat"}, {"scope": None, "scp": "chat"}, {"scope": None, "scp": ["chat", "email"]}):
        assert gate.authenticate(bearer(signed_token("one", **claims)), "/", ELSEWHERE, scope=Scope.CHAT)
    for claims in (
        {"scope": None},
        {"scope": "", "scp": "chat"},
        {"scope": "chatter"},
        {"scope": None, "scp": [["chat"]]},
    ):
        headers = bearer(signed_token("one", **claims))
        assert refused(gate, headers, scope=Scope.CHAT).refusal is Refusal.MISSING_SCOPE


def test_issuer_and_audience_are_those_of_the_settings(tmp_path: Path) -> None:
    gate = federated(tmp_path, "one")
    assert gate.authenticate(bearer(signed_token("one", aud=["crm", "voicegate"])), "/", ELSEWHERE, scope=Scope.CHAT)
    for claims, refusal in (
        ({"iss": "https://login.example.evil"}, Refusal.WRONG_ISSUER),
        ({"iss": None}, Refusal.WRONG_ISSUER),
        ({"aud": "crm"}, Refusal.WRONG_AUDIENCE),
        ({"aud": ["crm"]}, Refusal.WRONG_AUDIENCE),
        ({"aud": None}, Refusal.WRONG_AUDIENCE),
    ):
        assert refused(gate, bearer(signed_token("one", **claims))).refusal is refusal
    anyone = federated(tmp_path, "one", audience=None)
    assert anyone.authenticate(bearer(signed_token("one", aud="crm")), "/", ELSEWHERE, scope=Scope.CHAT)


def test_a_provider_s_token_is_refused_like_ours(tmp_path: Path) -> None:
    gate = federated(tmp_path, "one")
    header, _, signature = signed_token("one").split(".")
    altered = ".".join([header, signed_token("one", scope="admin").split(".")[1], signature])
    for token, refusal in (
        (signed_token("one", exp=int(NOW) - 60), Refusal.EXPIRED),
        (signed_token("one", nbf=int(NOW) + 600), Refusal.NOT_YET_VALID),
        (signed_token("one", exp=None), Refusal.MALFORMED),
        (signed_token("one", sub=None), Refusal.MALFORMED),
        (signed_token("two"), Refusal.UNKNOWN_KEY),
        (signed_token("one", header={"kid": "three"}), Refusal.UNKNOWN_KEY),
        (signed_token("two", header={}), Refusal.WRONG_SIGNATURE),  # no id: tried with the only key
        (signed_token("two", header={"kid": "one"}), Refusal.WRONG_SIGNATURE),
        (altered, Refusal.WRONG_SIGNATURE),
        (signed_token("one", header={"kid": "one", "crit": ["x"], "x": 1}), Refusal.MALFORMED),
    ):
        error = refused(gate, bearer(token))
        assert (error.refusal, error.status) == (refusal, 401)
        assert not any(part in str(error) for part in token.split("."))


def test_a_token_cannot_choose_how_it_is_checked(tmp_path: Path) -> None:
    """RFC 8725 section 2.1: above all, no HS256 token signed with the provider's public key."""
    public = private_key("one").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    claims = {**CLAIMS, "iss": ISSUER, "aud": "voicegate"}

    def by_hand(header: dict[str, str], key: bytes) -> str:
        """PyJWT will not sign with a public key; a forger does."""
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
        signature = hmac.digest(key, b".".join(parts), "sha256")
        return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()

    forged = [
        by_hand({"alg": "HS256", "kid": "one"}, pem.encode()),
        by_hand({"alg": "HS256", "kid": "one"}, jwk("one")["n"].encode()),
        by_hand({"alg": "RS256", "kid": "one"}, pem.encode()),
        by_hand({"alg": "none", "kid": "one"}, b""),
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode(claims, private_key("one"), algorithm="RS512", headers={"kid": "one"}),
        jwt.encode(claims, private_key("one"), algorithm="PS256", headers={"kid": "one"}),
    ]
    both, provider_only = federated(tmp_path, "one", secret=SecretStr(SECRET)), federated(tmp_path, "one")
    for gate in (both, provider_only):
        for token in forged:
            assert refused(gate, bearer(token)).refusal in (Refusal.MALFORMED, Refusal.WRONG_SIGNATURE)
    ours = mint(SECRET, "ann", [Scope.CALL], 60)
    assert both.authenticate(bearer(ours), "/", ELSEWHERE).subject == "ann"
    assert both.authenticate(bearer(signed_token("one", scope="call")), "/", ELSEWHERE).subject == "crm"
    assert refused(provider_only, bearer(ours)).refusal is Refusal.MALFORMED
    assert refused(signed(), bearer(signed_token("one", scope="call"))).refusal is Refusal.MALFORMED


async def test_a_rotated_key_opens_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.access.key_set.UNKNOWN_EVERY_S", 0.0)

    async def opens(gate: Authenticator, token: str) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    gate.authenticate(bearer(token), "/", ELSEWHERE, scope=Scope.CHAT)
                    return
                except AuthError as error:
                    assert error.refusal is Refusal.UNKNOWN_KEY
                    await asyncio.sleep(0.005)

    with provider() as identities:
        identities.document = key_set(jwk("one"))
        async with Authenticator(AuthSettings(jwks=identities.url, audience="voicegate")) as gate:
            await opens(gate, signed_token("one"))
            identities.document = key_set(jwk("two"))
            await opens(gate, signed_token("two"))
            assert refused(gate, bearer(signed_token("one"))).refusal is Refusal.UNKNOWN_KEY


# The command.


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setenv("VOICEGATE_AUTH_SECRET", SECRET)
    app = typer.Typer()
    app.callback()(lambda: None)  # a second command's place, so that "token" must be named
    register(app)
    return app


def test_the_command_prints_the_token_and_nothing_else(program: typer.Typer) -> None:
    done = CliRunner().invoke(program, ["token", "--scope", "call", "--scope", "monitor", "--subject", "ann"])
    assert done.exit_code == 0
    identity = signed().authenticate(bearer(done.stdout.strip()), "/", ELSEWHERE, scope=Scope.MONITOR)
    assert identity == Identity("ann", frozenset({Scope.CALL, Scope.MONITOR}))


def test_the_command_mints_every_scope(program: typer.Typer) -> None:
    for scope in Scope:
        done = CliRunner().invoke(program, ["token", "--scope", scope])
        identity = signed().authenticate(bearer(done.stdout.strip()), "/", ELSEWHERE, scope=scope)
        assert identity.scopes == {scope}


def test_the_command_in_json(program: typer.Typer) -> None:
    done = CliRunner().invoke(program, ["token", "--lifetime", "2h", "--json"])
    answer = json.loads(done.stdout)
    claims = jwt.decode(answer["token"], SECRET, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == 7200
    assert (answer["subject"], answer["scopes"]) == ("caller", ["call"])
    assert answer["expires_at"].endswith("+00:00")


def test_the_secret_may_come_from_a_file(program: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(OTHER_SECRET + "\n")
    done = CliRunner().invoke(program, ["token", "--secret-file", str(path)])
    gate = Authenticator(AuthSettings(secret=SecretStr(OTHER_SECRET)))
    assert gate.authenticate(bearer(done.stdout.strip()), "/", ELSEWHERE).subject == "caller"


@pytest.mark.parametrize(
    ("secret", "arguments", "taught"),
    [
        (None, [], "export VOICEGATE_AUTH_SECRET=$(openssl rand -hex 32)"),
        ("short", [], "openssl rand -hex 32"),
        (SECRET, ["--secret-file", "{tmp}/missing"], "missing"),
        (SECRET, ["--secret-file", "{tmp}/empty"], "is empty"),
        (SECRET, ["--secret-file", "{tmp}/short"], "needs 32 or more"),
        (SECRET, ["--lifetime", "soon"], "30m, 1h, 7d"),
        (SECRET, ["--scope", "fly"], "call"),
        (SECRET, ["--subject", " "], "whom"),
    ],
)
def test_mistakes_teach(
    program: typer.Typer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    secret: str | None,
    arguments: list[str],
    taught: str,
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "short").write_text("abc")
    if secret is None:
        monkeypatch.delenv("VOICEGATE_AUTH_SECRET")
    else:
        monkeypatch.setenv("VOICEGATE_AUTH_SECRET", secret)
    done = CliRunner().invoke(program, ["token", *(part.format(tmp=tmp_path) for part in arguments)])
    assert done.exit_code in (1, 2)
    assert done.stdout == ""
    assert taught in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1h", 3600), (" 7 d ", 604800)])
def test_lifetimes(text: str, seconds: int) -> None:
    assert parse_lifetime(text) == seconds


@given(st.text(max_size=12))
def test_a_lifetime_is_positive_or_an_error(text: str) -> None:
    try:
        assert parse_lifetime(text) > 0
    except ValueError as error:
        assert "no lifetime" in str(error)
