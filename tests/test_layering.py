"""The one-way imports between our top-level folders, walked in the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
OURS = {"audio", "nlu", "dialogue", "tts_stub", "gateway", "bench", "tests"}
MAY_IMPORT = {
    "audio": set(),
    "nlu": set(),
    "tts_stub": {"audio"},
    "dialogue": {"nlu"},
    "gateway": {"audio", "nlu", "dialogue", "tts_stub"},
    "bench": {"audio", "nlu", "dialogue", "tts_stub", "gateway"},
}


def imported(path: Path) -> set[str]:
    """Top-level names of ours that a file imports, at any depth of the code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names & OURS


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_folder_imports_only_what_stands_below_it(folder: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): sorted(extra)
        for path in (ROOT / folder).rglob("*.py")
        if (extra := imported(path) - MAY_IMPORT[folder] - {folder})
    }
    assert wrong == {}


def test_a_gateway_worker_imports_no_model_code() -> None:
    """A worker is sockets, detection, dialogue and playout: memory and start time depend on it."""
    heavy = ["torch", "transformers", "faster_whisper", "ctranslate2", "onnxruntime", "scipy"]
    code = f"import sys, gateway.processes.worker; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
