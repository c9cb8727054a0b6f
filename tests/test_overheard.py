"""The check of logs for callers' words can fail: it hears every logger of ours, stderr, and children's log files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.caller_words import CALLER_TEXTS, find_caller_words

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
LEAKS = {
    "a_record": 'logging.getLogger("gateway.calls.session").info("heard %r", "Yes  speaking")',
    "a_quiet_record": 'logging.getLogger("nlu.engine").debug("heard " + "four four one seven")',
    "a_record_of_a_call": 'logs.CallLog(logging.getLogger("gateway.x"), lambda: "c").debug("no that is all")',
    "an_exception": (
        "try:\n        raise ValueError('when is it due')\n"
        '    except ValueError:\n        logging.getLogger("audio.asr").exception("failed")'
    ),
    "a_library": 'logging.getLogger("uvicorn.error").error("aardvark")',
    "a_child": 'subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write(\'aardvark\')"])',
    "a_child_with_a_file": '(tmp_path / "log").write_text("started\\ni can pay on friday")',
}
FINE = {
    "numbers": 'logging.getLogger("gateway.calls.session").info("heard %d samples, yes", 320)',
    "a_client_of_the_test": 'logging.getLogger("websockets.client").error("yes speaking")',
    "what_is_printed": 'print("yes speaking")',
}


def run(folder: Path, tests: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    lines = ["import logging, subprocess, sys", "from gateway import logs"]
    lines += [f"def test_{name}(tmp_path):\n    {body}\n" for name, body in tests.items()]
    (folder / "test_leaks.py").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.overheard", "-p", "no:hypothesispytest"]
    command += ["-c", "/dev/null", *options]
    return subprocess.run(
        [*command, "--rootdir", str(folder), "--basetemp", str(folder / "temp"), str(folder / "test_leaks.py")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_run_with_a_caller_s_words_in_a_log_fails_and_names_test_and_line(tmp_path: Path, processes: str) -> None:
    done = run(tmp_path, {**LEAKS, **FINE}, "-n", processes)
    assert f"{len(LEAKS) + len(FINE)} passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    told = [line for line in done.stdout.splitlines() if re.search(r": '.*' from ", line)]
    for name in LEAKS:
        assert any(re.search(rf"test_{name}\d?: ", line) for line in told), name
    assert len(told) == len(LEAKS)
    assert any("test_leaks.py:4 (gateway.calls.session)" in line for line in told)
    assert any(line.endswith("log:2") for line in told)


def test_a_run_without_them_passes(tmp_path: Path) -> None:
    done = run(tmp_path, FINE)
    assert done.returncode == 0 and "callers' words" not in done.stdout, done.stdout + done.stderr


def test_levels_and_handlers_let_through_what_they_did(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    caplog.set_level(logging.WARNING, "gateway.quiet")
    logging.getLogger("gateway.quiet").info("nobody hears this")
    logging.getLogger("gateway.quiet").warning("but this")
    assert [record.getMessage() for record in caplog.records] == ["but this"]


def test_all_that_the_demo_s_callers_say_is_looked_for() -> None:
    readme = (ROOT / "gateway" / "demo" / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"^\| `[\w/-]+\.wav` \| ([^|]+) \|", readme, flags=re.M)
    assert len(said) == 12
    assert set(said) <= set(CALLER_TEXTS)


def test_all_that_scripted_callers_say_is_looked_for() -> None:
    """But single words, which logs may hold for reasons of their own."""
    missing = {
        said
        for path in (ROOT / "tests").glob("**/test_*.py")
        for said in re.findall(r'\bhear="([^"]+)"', path.read_text(encoding="utf-8"))
        if " " in said and find_caller_words(said) is None
    }
    assert missing == set()
