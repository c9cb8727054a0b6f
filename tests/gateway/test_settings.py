"""Where settings come from, which one wins, and what is said of those that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from audio.endpointing import EndpointSettings
from gateway.settings import Settings, SettingsError, load

pytestmark = pytest.mark.unit

SECRET = "s3cret-" + "x" * 40


def faults(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None, **flags: Any) -> list[str]:
    """The lines of the error that these sources bring about."""
    file = tmp_path / "gate.toml"
    file.write_text(toml, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(
            config=file, environ=environ or {}, flags={name.replace("__", "."): value for name, value in flags.items()}
        )
    return str(caught.value).replace(str(tmp_path) + "/", "").splitlines()


def test_nothing_given_is_the_defaults() -> None:
    settings = load(environ={})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.control_port) == ("127.0.0.1", 8765, 8080)
    assert settings.all_bots == ("bill-reminder", "bill-reminder-zh", "load")
    assert not settings.requires_authentication


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text("port = 1001\nworkers = 4\ncontrol_port = 1002\n[limits]\ncall_s = 60\nflood_s = 3\n")
    environ = {"VOICEGATE_PORT": "2001", "VOICEGATE_LIMITS_CALL_S": "70", "VOICEGATE_CONTROL_PORT": "2002"}
    settings = load(config=file, environ=environ, flags={"port": 3001, "control_port": None, "limits.call_s": None})
    assert (settings.port, settings.control_port, settings.workers) == (3001, 2002, 4)
    assert (settings.limits.call_s, settings.limits.flood_s) == (70, 3)
    assert settings.limits.no_audio_s == 20


def test_the_environments_words(tmp_path: Path) -> None:
    settings = load(
        environ={
            "VOICEGATE_BOTS": "load,,other",
            "VOICEGATE_ASR_SPECULATE": "false",
            "VOICEGATE_PLAYOUT_PTIME_MS": "40",
            "VOICEGATE_PLAYOUT_LEAD_MS": "120",
            "VOICEGATE_ENDPOINTING_TAIL_MS": "600",
            "VOICEGATE_REDIS_STATE_DIR": str(tmp_path),
            "VOICEGATE_AUTH_TOKENS": "one-fixed-token-of-ours,two-fixed-token-of-ours",
            "VOICEGATE_LOG_FORMAT": "",  # empty is not given
            "VOICEGATE_TOKEN": "of `voicegate call`, not ours",
            "PATH": "/bin",
        }
    )
    assert settings.bots == ("load", "other")
    assert settings.asr.speculate is False
    assert (settings.playout.ptime_ms, settings.playout.lead_ms) == (40, 120)
    assert settings.endpointing == EndpointSettings(tail_ms=600)
    assert settings.redis.state_dir == tmp_path
    assert [token.get_secret_value() for token in settings.auth.tokens] == [
        "one-fixed-token-of-ours",
        "two-fixed-token-of-ours",
    ]
    assert settings.log_format == "text"


def test_redis_url_is_read_and_our_own_name_goes_before_it() -> None:
    redis, ours = "redis://a:1", "redis://b:2"
    assert load(environ={"REDIS_URL": redis}).redis.url == redis
    assert load(environ={"VOICEGATE_REDIS_URL": ours, "REDIS_URL": redis}).redis.url == ours
    assert load(environ={"REDIS_URL": redis}, flags={"redis.url": "unix:///x"}).redis.url == "unix:///x"


def test_all_faults_are_told_at_once_each_with_where_it_stands(tmp_path: Path) -> None:
    told = faults(
        tmp_path,
        'port = 99999\ncolour = "red"\n[limits]\ncall_s = 0\n[asr]\ndevice = "tpu"\n',
        {"VOICEGATE_WORKERS": "many", "VOICEGATE_LIMITS_CALLS_PER_WORKR": "5"},
        control_port=-1,
        playout__ptime_ms=25,
    )
    for where, what in (
        ("gate.toml: port:", "65535"),
        ("gate.toml: colour:", "no such setting"),
        ("gate.toml: [limits] call_s:", "greater than 0"),
        ("gate.toml: [asr] device:", "'tpu'"),
        ("VOICEGATE_WORKERS:", "'many'"),
        ("VOICEGATE_LIMITS_CALLS_PER_WORKR:", "limits.calls_per_worker?"),
        ("--control-port:", "greater than or equal to 0"),
        ("--playout-ptime-ms:", "25"),
    ):
        assert any(line.startswith(where) and what in line for line in told), (where, told)
    assert len(told) == 8


def test_a_file_that_is_not_there_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nowhere.toml: cannot be read: No such file"):
        load(config=tmp_path / "nowhere.toml", environ={})
    with pytest.raises(SettingsError, match="cannot be read"):
        load(config=tmp_path, environ={})
    assert "gate.toml: is not TOML" in faults(tmp_path, "port = ")[0]
    (tmp_path / "latin.toml").write_bytes(b'bot = "\xe9"')
    with pytest.raises(SettingsError, match="is not TOML"):
        load(config=tmp_path / "latin.toml", environ={})


@pytest.mark.parametrize(
    "toml",
    ["limits = 3", "[host]\nx = 1", "[[limits]]\ncall_s = 1", "[limits.deep]\nx = 1", "[nothing]\nx = 1"],
)
def test_tables_where_none_belong_are_no_such_setting(tmp_path: Path, toml: str) -> None:
    assert all("no such setting" in line for line in faults(tmp_path, toml))


def test_a_fault_of_a_kind_names_the_kind(tmp_path: Path) -> None:
    told = faults(tmp_path, 'limits = 3\nbots = "load"\nhost = "gateway.lan"\n[twilio]\naccount_sid = 12\n')
    assert told[:2] == [
        "gate.toml: limits: no such setting; it is a table: its settings stand below [limits]",
        """gate.toml: bots: is no list; write it like ["one", "another"] (given: 'load')""",
    ]
    (about_host,) = [line for line in told if line.startswith("host:")]
    assert "is not an IP address" in about_host, "who can reach it is not known, and not told"


@pytest.mark.parametrize("table", ["webhooks]\nsecret", "assistant]\napi_key", "twilio]\nauth_token", "auth]\nsecret"])
def test_a_secret_of_the_wrong_kind_is_not_repeated(tmp_path: Path, table: str) -> None:
    (told,) = faults(tmp_path, f"[{table} = 8123446\n")
    assert "gate.toml" in told and "8123446" not in told


def test_endpointing_that_contradicts_itself_is_a_fault_like_any_other(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, "[endpointing]\npause_ms = 100\n", {"VOICEGATE_ENDPOINTING_KEEP_AFTER_MS": "200"})
    assert line.startswith("gate.toml: [endpointing] pause_ms, VOICEGATE_ENDPOINTING_KEEP_AFTER_MS: ")
    assert "pause_ms=100 must be at least keep_after_ms=200" in line
    (line,) = faults(tmp_path, '[endpointing]\ntail_ms = "long"\n')
    assert line.startswith("gate.toml: [endpointing] tail_ms: ")


def test_an_item_of_a_list_is_told_at_its_list(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, 'bot = "a"\nbots = ["b", 3]\n')
    assert line.startswith("gate.toml: bots: ")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_a_public_address_needs_authentication(tmp_path: Path, host: str) -> None:
    (line,) = faults(tmp_path, host=host)
    assert line.startswith("host:") and "VOICEGATE_AUTH_SECRET" in line
    assert load(environ={"VOICEGATE_AUTH_SECRET": SECRET}, flags={"host": host}).requires_authentication
    assert load(
        environ={"VOICEGATE_AUTH_TOKENS": "a-fixed-token-of-ours"}, flags={"host": host}
    ).requires_authentication


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_does_not(host: str) -> None:
    assert load(environ={}, flags={"host": host}).host == host


def test_other_things_that_do_not_fit_together(tmp_path: Path) -> None:
    assert "not an IP address" in faults(tmp_path, host="example")[0]
    assert "media port too" in faults(tmp_path, port=9000, control_port=9000)[0]
    assert load(environ={}, flags={"port": 0, "control_port": 0}).port == 0
    (line,) = faults(tmp_path, environ={"REDIS_URL": "user:hunter2@host"})
    assert "redis://" in line and "hunter2" not in line


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"REDIS_URL": "redis+sentinel://a:26379,b/"}, "redis.url: name the service"),
        ({"VOICEGATE_INFERENCE_WORKERS": "2"}, 'for more or none set inference.seam to "streams"'),
        ({"VOICEGATE_WORKERS": "0", "VOICEGATE_INFERENCE_SEAM": "streams"}, "redis.url: a host of inference alone"),
        ({"VOICEGATE_INFERENCE_POOL": "{a}"}, "pattern"),
    ],
)
def test_who_answers_for_models_must_be_findable(tmp_path: Path, environ: dict[str, str], told: str) -> None:
    assert told in faults(tmp_path, environ=environ)[0]


@pytest.mark.parametrize("name", ["results.webhook", "monitoring.webhook"])
def test_a_webhook_goes_to_a_host_that_is_trusted(tmp_path: Path, name: str) -> None:
    for address in ("https://user:hunter2@crm.example/x", "https://[bad/x"):
        (line,) = faults(tmp_path, **{name: address, "webhooks.hosts": ("other.example",)})
        assert line.startswith(f"{name}: its host is not among webhooks.hosts") and "hunter2" not in line
    for host in ("crm.example", "crm.example:8443"):
        flags = {name: "https://crm.example:8443/x", "webhooks.hosts": (host,)}
        assert load(environ={}, flags=flags).webhooks.hosts == (host,)


# Secrets.


def test_what_an_engine_can_compute_in(tmp_path: Path) -> None:
    settings = load(environ={"VOICEGATE_ASR_ENGINE": "torch", "VOICEGATE_ASR_COMPUTE_TYPE": "bfloat16"})
    assert (settings.asr.engine, settings.asr.compute_type) == ("torch", "bfloat16")
    (fault,) = faults(tmp_path, '[asr]\nengine = "torch"\ncompute_type = "int8_float16"')
    assert fault.startswith("asr.compute_type: int8_float16 is ctranslate2's") and "choose float32" in fault
    told = faults(tmp_path, '[asr]\nengine = "tensorrt"\ncompute_type = "fp4"')
    assert [line.split(": ")[1] for line in told] == ["[asr] engine", "[asr] compute_type"]


def test_a_short_secret_is_refused_and_not_shown(tmp_path: Path) -> None:
    (line,) = faults(tmp_path, environ={"VOICEGATE_AUTH_SECRET": "hunter2"})
    assert "32 characters" in line and "hunter2" not in line


def test_no_secret_in_any_repr_or_error(tmp_path: Path) -> None:
    environ = {
        "VOICEGATE_AUTH_SECRET": SECRET,
        "VOICEGATE_AUTH_TOKENS": "tok-hunter2-and-more",
        "REDIS_URL": "redis://:hunter3@host/0",
    }
    settings = load(environ=environ)
    for shown in (repr(settings), str(settings), repr(settings.auth), str(settings.redis), f"{settings.model_dump()}"):
        assert SECRET not in shown and "hunter2" not in shown
    assert "hunter3" not in repr(settings)
    told = faults(tmp_path, '[auth]\nsecret = 7\ntokens = ["ok", 12345678]\n', {"VOICEGATE_PORT": "x"})
    assert not any("12345678" in line for line in told)
    assert len(told) == 3


def test_what_a_child_reads_is_what_was_loaded(tmp_path: Path) -> None:
    settings = load(
        environ={
            "VOICEGATE_AUTH_SECRET": SECRET,
            "VOICEGATE_AUTH_TOKENS": "one-fixed-token-of-ours,two-fixed-token-of-ours",
            "VOICEGATE_REDIS_STATE_DIR": str(tmp_path),
            "VOICEGATE_REDIS_URL": "redis://:pw@host",
            "VOICEGATE_ENDPOINTING_TAIL_MS": "700",
            "VOICEGATE_PLAYOUT_PTIME_MS": "10",
        },
        flags={"bots": ("größe",)},
    )
    read = Settings.model_validate_json(settings.dump_json())
    assert read == settings
    assert isinstance(read.auth.secret, SecretStr) and read.auth.secret.get_secret_value() == SECRET
    assert [token.get_secret_value() for token in read.auth.tokens] == [
        "one-fixed-token-of-ours",
        "two-fixed-token-of-ours",
    ]
    assert read.redis.state_dir == tmp_path
    assert read.endpointing == EndpointSettings(tail_ms=700)
    assert Settings.model_validate_json(Settings().dump_json()) == Settings()


@given(st.dictionaries(st.sampled_from(["PORT", "HOST", "BOTS", "X", "ASR", "AUTH", "ENDPOINTING_TAIL_MS"]), st.text()))
def test_no_environment_brings_a_traceback(words: dict[str, str]) -> None:
    try:
        load(environ={f"VOICEGATE_{name}": text for name, text in words.items()})
    except SettingsError as exc:
        assert str(exc)


def test_an_identity_provider_must_be_sound_and_named(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text("{}")
    for jwks, fault in (
        ("keys-nowhere.json", "auth.jwks: keys-nowhere.json is neither an address nor a file"),
        ("http://login.example/keys", "auth.jwks: only https:// is safe"),
        ("ftp://login.example/keys", "auth.jwks: only https:// is safe"),
    ):
        assert any(fault in line for line in faults(tmp_path, auth__jwks=jwks, auth__issuer="https://login.example"))
    assert "set at least one of them" in faults(tmp_path, auth__jwks=str(keys))[0]
    assert "set auth.jwks too" in faults(tmp_path, auth__audience="voicegate")[0]
    for jwks in ("https://login.example/keys", "http://127.0.0.1:9/keys", str(keys)):
        settings = load(environ={}, flags={"auth.jwks": jwks, "auth.audience": "voicegate", "host": "0.0.0.0"})
        assert settings.requires_authentication
