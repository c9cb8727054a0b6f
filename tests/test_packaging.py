"""What the wheel holds: every package, and every file that is no Python and that a program reads."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
TOP = ("audio", "nlu", "dialogue", "tts_stub", "gateway")
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_is_listed() -> None:
    found = {str(path.parent.relative_to(ROOT)) for top in TOP for path in (ROOT / top).rglob("__init__.py")}
    assert {name.replace("/", ".") for name in found} == set(SETUP["packages"])


def test_every_file_of_a_package_that_is_no_python_is_listed() -> None:
    listed = {
        path
        for package, patterns in SETUP["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package).glob(pattern)
    }
    missing = [
        str(path.relative_to(ROOT))
        for top in TOP
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path not in listed
    ]
    assert missing == []
