"""Each check on what it should like and on what it should not; the command's two forms."""

from __future__ import annotations

import json
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli import doctor
from gateway.cli.doctor import Finding, Status

pytestmark = pytest.mark.unit


def is_sound(finding: Finding) -> bool:
    """Whatever is not ok says how to mend it; whatever is ok has no mend."""
    return bool(finding.name and finding.detail) and (finding.mend is None) == (finding.status is Status.OK)


@pytest.mark.parametrize(
    ("finding", "status", "said"),
    [
        (lambda: doctor.check_python(), Status.OK, "3."),
        (lambda: doctor.check_python((3, 10, 4)), Status.FAIL, "3.10.4"),
        (lambda: doctor.check_cores(), None, ""),
        (lambda: doctor.check_cores(1), Status.WARN, "1"),
        (lambda: doctor.check_cores(16), Status.OK, "16"),
        (lambda: doctor.check_uvloop(), Status.OK, "0."),
        (lambda: doctor.check_codecs(), Status.OK, "MP3"),
        (lambda: doctor.check_codecs(("WAV", "8TRACK")), Status.WARN, "8TRACK"),
        (lambda: doctor.check_espeak(), Status.OK, "speaks"),
        (lambda: doctor.check_open_files((1024, 4096)), Status.WARN, "about 824 calls"),
        (lambda: doctor.check_open_files((100, 100)), Status.WARN, "about 0 calls"),
        (lambda: doctor.check_open_files((65536, 65536)), Status.OK, "65536"),
        (lambda: doctor.check_open_files((resource.RLIM_INFINITY,) * 2), Status.OK, "none"),
        (lambda: doctor.check_bot("no-such-bot"), Status.FAIL, "no such file"),
        (lambda: doctor.check_encoder("xx"), Status.FAIL, "xx"),
        (lambda: doctor.check_redis("http://nonsense"), Status.FAIL, "does not parse"),
        (lambda: doctor.check_redis("redis://:hunter2@127.0.0.1:1/0"), Status.FAIL, "does not answer"),
        (lambda: doctor.check_redis(None), Status.OK, "server"),
    ],
)
def test_a_check(finding: Callable[[], Finding], status: Status | None, said: str) -> None:
    found = finding()
    assert is_sound(found)
    assert status is None or found.status is status
    assert said in found.detail
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("module", "check"),
    [
        ("torch", doctor.check_torch),
        ("ctranslate2", doctor.check_cublas),
        ("soundfile", doctor.check_codecs),
        ("uvloop", doctor.check_uvloop),
        ("audio.whisper_engine", doctor.check_recogniser),
        ("nlu.encoders", doctor.check_encoder),
        ("nlu.artefact", lambda: doctor.check_bot("load")),
    ],
)
def test_a_library_that_does_not_import_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, module: str, check: Callable[[], Finding]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = check()
    assert found.status is Status.FAIL and is_sound(found)


def test_open_files_says_which_limit_to_raise() -> None:
    assert "ulimit -n" in str(doctor.check_open_files((1024, 65536)).mend)
    assert "limits.conf" in str(doctor.check_open_files((1024, 4096)).mend)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_ports(taken_port: int) -> None:
    busy = doctor.check_port("media port", "127.0.0.1", taken_port)
    assert (busy.status, is_sound(busy)) == (Status.WARN, True)
    assert str(taken_port) in busy.detail
    assert doctor.check_port("media port", "127.0.0.1", 0).status is Status.OK
    foreign = doctor.check_port("media port", "192.0.2.1", taken_port)
    assert (foreign.status, is_sound(foreign)) == (Status.FAIL, True)


def test_a_gpu_needs_cublas(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctranslate2

    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 1)
    missing = doctor.check_cublas("libnosuchthing.so.12")
    assert missing.status is Status.WARN
    assert "voicegate[gpu]" in str(missing.mend)
    assert doctor.check_cublas("libc.so.6").status is Status.OK
    monkeypatch.setattr(doctor, "_packaged_cublas", lambda: Path("/site/nvidia/cublas/lib"))
    assert "LD_LIBRARY_PATH=/site/nvidia/cublas/lib" in str(doctor.check_cublas("libnosuchthing.so.12").mend)
    monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: 0)
    assert "not needed" in doctor.check_cublas("libnosuchthing.so.12").detail


@pytest.mark.model
def test_the_bundled_recogniser_runs() -> None:
    found = doctor.check_recogniser()
    assert found.status is Status.OK, found
    assert "in ctranslate2 on cpu" in found.detail


@pytest.mark.model
def test_a_recogniser_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = doctor.check_recogniser(str(tmp_path / "empty"))
    assert found.status is Status.FAIL and is_sound(found)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """The command with few, quick checks: one of each status."""
    findings = [
        Finding(name="left", status=Status.OK, detail="all well"),
        Finding(name="right", status=Status.WARN, detail="so-so", mend="look at it"),
        Finding(name="middle", status=Status.FAIL, detail="broken", mend="mend it"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda settings: iter(findings))
    app = typer.Typer()
    doctor.register(app)
    return app


def test_the_report_in_text(program: typer.Typer) -> None:
    done = CliRunner().invoke(program)
    assert done.exit_code == 1
    rows = done.stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["ok", "warn", "->", "fail", "->", "3"]
    assert rows[-1] == "3 checks, 1 to mend, 1 worth a look"


def test_the_report_in_json(program: typer.Typer) -> None:
    done = CliRunner().invoke(program, ["--json"])
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert report["findings"][2] == {"name": "middle", "status": "fail", "detail": "broken", "mend": "mend it"}


def test_a_warning_alone_is_no_failure(program: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda settings: iter([doctor.check_cores(1)]))
    assert CliRunner().invoke(program).exit_code == 0


def test_settings_that_cannot_be_used_are_findings(program: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEGATE_PORT", "many")
    monkeypatch.setenv("VOICEGATE_NO_SUCH_THING", "1")
    done = CliRunner().invoke(program, ["--json"])
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert [finding["status"] for finding in report["findings"]] == ["fail", "fail"]


def test_examine_looks_at_everything_the_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order and the arguments; the checks themselves are tested above."""
    asked: list[tuple[str, tuple[object, ...]]] = []
    for name in [name for name in vars(doctor) if name.startswith("check_")]:
        monkeypatch.setattr(
            doctor, name, lambda *given, name=name: asked.append((name, given)) or doctor._ok(name, "seen")
        )
    settings = doctor.gateway_settings.load(
        environ={"REDIS_URL": "redis://there", "VOICEGATE_PORT": "9000", "VOICEGATE_BOTS": "load,other"}
    )
    assert len(list(doctor.examine(settings))) == len(asked)
    assert ("check_redis", ("redis://there",)) in asked
    assert ("check_port", ("media port", "127.0.0.1", 9000)) in asked
    assert [given for name, given in asked if name == "check_bot"] == [("bill-reminder",), ("load",), ("other",)]
    assert {name for name, _ in asked} == {name for name in vars(doctor) if name.startswith("check_")}
