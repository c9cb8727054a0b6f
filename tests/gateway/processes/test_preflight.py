"""What the settings name on disk is tried before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.access.own_certificate import CERTIFICATE, KEY
from gateway.cli import certificate, serve
from gateway.cli.doctor import Status, check_files
from gateway.processes.preflight import unusable_files
from gateway.settings import Settings, load

pytestmark = pytest.mark.unit


def recording_to(folder: Path) -> Settings:
    return load(environ={"VOICEGATE_RECORDING_BOTS": "load", "VOICEGATE_RECORDING_DIRECTORY": str(folder)})


def served_with(folder: Path) -> Settings:
    return load(environ={}, flags={"tls.certificate": folder / CERTIFICATE, "tls.key": folder / KEY})


def test_nothing_named_is_nothing_wrong(tmp_path: Path) -> None:
    assert unusable_files(load(environ={})) == []
    assert unusable_files(recording_to(tmp_path)) == []
    assert unusable_files(recording_to(tmp_path / "not" / "there" / "yet")) == []
    assert not (tmp_path / "not").exists(), "it only looks"


@pytest.mark.parametrize("is_link", [False, True], ids=["file", "link to nothing"])
def test_a_folder_of_recordings_that_cannot_be(tmp_path: Path, is_link: bool) -> None:
    file = tmp_path / "file"
    if is_link:
        file.symlink_to(tmp_path / "nothing")
    else:
        file.touch()
    assert unusable_files(recording_to(file)) == [
        f"recording.directory: {file} is no folder; name a folder that this user may write to"
    ]
    (fault,) = unusable_files(recording_to(file / "calls"))
    assert f"since {file} is none" in fault


def test_a_folder_that_cannot_even_be_looked_for_is_left_to_the_workers(tmp_path: Path) -> None:
    assert unusable_files(recording_to(tmp_path / ("x" * 300))) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_recordings_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (fault,) = unusable_files(recording_to(tmp_path / "calls"))
    assert f"for {tmp_path} is not this user's" in fault


def test_a_certificate_that_is_not_there_ends_serve_at_once(tmp_path: Path) -> None:
    app = typer.Typer()
    serve.register(app)
    done = CliRunner().invoke(app, ["--tls", str(tmp_path)])
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "Settings that cannot be used:"
    assert [line.split()[0] for line in lines[1:]] == ["tls.certificate", "control.tls_certificate"]
    assert all("No such file" in line and "`voicegate certificate`" in line for line in lines[1:])


def test_the_doctor_says_the_same(tmp_path: Path) -> None:
    assert check_files(load(environ={})).status is Status.OK
    found = check_files(served_with(tmp_path))
    assert (
        found.status is Status.FAIL and "No such file" in found.detail and "`voicegate certificate`" in str(found.mend)
    )
    app = typer.Typer()
    certificate.register(app)
    assert CliRunner().invoke(app, ["--out", str(tmp_path / "tls"), "--host", "gateway.lan"]).exit_code == 0
    assert check_files(served_with(tmp_path / "tls")).status is Status.OK
