"""The documents say what the program does: links, commands, settings, messages, close codes, metrics, bots."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from audio.formats import AudioFormat
from dialogue.bots import load_bot
from gateway import metrics
from gateway.protocols import seam
from gateway.protocols.native import NativeProtocol
from gateway.settings import ENV_PREFIX, Settings
from nlu.meaning import Meaning

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose_of(name: str) -> str:
    """A document without its code blocks."""
    return re.sub(r"^```.*?^```", "", text_of(name), flags=re.S | re.M)


# Links.


def anchors(name: str) -> set[str]:
    """The anchors of a document's headings, as hubs make them."""
    titles = re.findall(r"^#+ (.+)$", prose_of(name), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMES)
def test_relative_links_lead_somewhere(name: str) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(name)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        if not file.exists() or (anchor and anchor not in anchors(str(file.resolve().relative_to(ROOT)))):
            broken.append(target)
    assert broken == []


# Commands.


@dataclass
class Command:
    """A command of the program: its sub-commands, and the options of one that has none."""

    commands: dict[str, Command]
    options: set[str]

    @classmethod
    def of(cls, command: Any) -> Command:
        # Typer's classes are click's in some versions and its own in others; both have these attributes.
        return cls(
            {name: cls.of(below) for name, below in getattr(command, "commands", {}).items()},
            {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", "-h"},
        )


@cache
def program() -> Command:
    """The whole `voicegate`, as its modules register it."""
    app = typer.Typer()
    for path in sorted((ROOT / "gateway" / "cli").glob("*.py")):
        module = importlib.import_module(f"gateway.cli.{path.stem}")
        if hasattr(module, "register"):
            module.register(app)
    return Command.of(typer.main.get_command(app))


def mentioned(name: str) -> Iterator[list[str]]:
    """Words of each `voicegate ...` in a document: in code blocks a line, in prose what stands between backticks."""
    text = text_of(name)
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.S | re.M)
    spans = re.findall(r"`([^`]+)`", prose_of(name))
    for source in (*(line for block in blocks for line in block.splitlines()), *spans):
        if found := re.match(r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\S*/)?voicegate (?!is\b)([^#|>]+)", source.strip()):
            yield found[1].replace("\n", " ").split()


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_their_options_exist(name: str) -> None:
    wrong = []
    for words in mentioned(name):
        command, rest = program(), list(words)
        while command.commands and rest and not rest[0].startswith("-"):
            if rest[0] not in command.commands:
                wrong.append(" ".join(words))
                break
            command = command.commands[rest.pop(0)]
        else:
            used = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
            wrong += [f"{' '.join(words)}: {option}" for option in used - command.options]
    assert wrong == []


def test_every_command_is_named_in_the_readme() -> None:
    readme = text_of("README.md")
    for name, command in program().commands.items():
        for leaf in command.commands or [""]:
            assert f"{name} {leaf}".strip() + "`" in readme


# Settings.


def settings_with_defaults() -> dict[str, object]:
    """Every setting by its dotted name."""
    found: dict[str, object] = {}
    for name, info in Settings.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for leaf, inner in kind.model_fields.items():
                found[f"{name}.{leaf}"] = inner.default
        elif isinstance(kind, type) and is_dataclass(kind):
            for leaf_field in fields(kind):
                found[f"{name}.{leaf_field.name}"] = leaf_field.default
        else:
            found[name] = info.default
    assert not [name for name, value in found.items() if value in (PydanticUndefined, MISSING)]
    return found


def shown(default: object) -> str:
    """A default as TOML writes it; None, which TOML cannot say, as `none` without backticks."""
    if default is None:
        return "none"
    if isinstance(default, StrEnum):
        default = default.value
    return f"`{json.dumps(default)}`"


def test_every_setting_is_documented_with_its_names_and_default_and_no_other_is() -> None:
    expected = {
        (f"`{name}`", f"`{ENV_PREFIX}{name.replace('.', '_').upper()}`", shown(default))
        for name, default in settings_with_defaults().items()
    }
    rows = re.findall(
        r"^\| (`[a-z_.]+`) \| (`VOICEGATE_[A-Z_]+`) \| (.+?) \| ", text_of("docs/operations.md"), flags=re.M
    )
    assert set(rows) == expected
    assert len(rows) == len(expected)


def test_the_example_of_a_settings_file_is_toml_of_known_settings() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", text_of("docs/operations.md"), flags=re.S | re.M)
    Settings.model_validate({**tomllib.loads(example), "auth": {"secret": "x" * 32}})


# The native protocol.


def server_messages() -> dict[str, set[str]]:
    """Every message type that the server sends, with its fields."""
    commands: list[seam.Command] = [
        seam.SessionReady(call_id="c", resumed=False),
        seam.SpeechEdge(started=True, at_ms=0),
        seam.SpeechEdge(started=False, at_ms=0),
        seam.TurnHeard(round_id=1, text=""),
        seam.TurnUnderstood(round_id=1, meaning=Meaning("oos", 0.0)),
        seam.PromptStarted(round_id=1, text="", node="", timing={}),
        seam.SendMark("p1"),
        seam.ClearPlayout(),
        seam.TransferCall(target="", context={}),
        seam.EndCall(""),
        seam.ReportFault("", ""),
    ]
    assert {type(command) for command in commands} == set(seam.Command.__args__)
    bodies = [json.loads(str(NativeProtocol().send(command)[0])) for command in commands]
    return {body.pop("type"): set(body) for body in bodies}


def table(document: str, heading: str) -> dict[str, str]:
    """The first table under a heading, without its own head: first cell without backticks -> the rest of the row."""
    section = re.split(rf"^## {re.escape(heading)}$", document, flags=re.M)[1]
    rows = re.search(r"^\| --- .*\n((?:\|.*\n)+)", section, flags=re.M)
    assert rows is not None
    return {cells[0].strip("` "): cells[1] for cells in re.findall(r"^\| ([^|]+) \| (.*) \|$", rows[1], flags=re.M)}


def test_every_message_of_the_server_is_documented_with_its_fields_and_no_other_is() -> None:
    rows = table(text_of("docs/protocols.md"), "Messages from the server")
    documented = {name: set(re.findall(r"`(\w+)`", rest.split(" | ")[0])) for name, rest in rows.items()}
    assert documented == server_messages()


def test_every_message_of_the_client_is_documented_and_no_other_is() -> None:
    protocol = NativeProtocol()
    protocol.receive(b"")
    (fault,) = protocol.receive('{"type": "?"}')
    assert isinstance(fault, seam.PeerFault)
    known = set(fault.reason.rpartition("one of ")[2].split(", "))
    rows = table(text_of("docs/protocols.md"), "Messages from the client")
    assert set(rows) == known


def test_every_close_code_and_error_code_is_documented() -> None:
    document = text_of("docs/protocols.md")
    for code in seam.CloseCode:
        assert re.search(rf"^\| {code.value} \| ", document, flags=re.M), code
    folders = [ROOT / "gateway" / name for name in ("access", "calls", "protocols")]
    modules = [path for folder in folders for path in folder.glob("*.py")]
    sources = "".join(path.read_text(encoding="utf-8") for path in modules)
    codes = set(re.findall(r"(?:fail|Fault|_fault)\(\s*\"(\w+)\"", sources))
    documented = set(re.findall(r"^\| `(\w+)` \| ", document.split("## Errors and close codes")[1], flags=re.M))
    assert "bad_start" in codes
    assert documented == codes


def test_the_default_format_is_documented() -> None:
    default = AudioFormat()
    document = text_of("docs/protocols.md")
    for key, value in (("encoding", f"`{default.encoding.value}`"), ("sample_rate", default.sample_rate_hz)):
        assert re.search(rf"^\| `{key}` \| .* \| {value} \|$", document, flags=re.M)


# Metrics and bots.


def test_every_metric_is_documented_and_no_other_is() -> None:
    registry = CollectorRegistry()
    metrics.Metrics(registry)
    metrics.HttpMetrics(registry)
    metrics.InferenceMetrics(registry)
    assert set(re.findall(r"^\| `(voicegate_\w+)` \| ", text_of("docs/operations.md"), flags=re.M)) == {
        family.name for family in registry.collect()
    }


def test_the_bot_in_the_documents_has_no_faults(tmp_path: Path) -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```", text_of("docs/bots.md"), flags=re.S | re.M)
    flow = next(example for example in examples if example.startswith("start:"))
    (tmp_path / "flow.yaml").write_text(flow, encoding="utf-8")
    (tmp_path / "bot.yaml").write_text("name: library\nlanguage: en\nflow: flow.yaml\n", encoding="utf-8")
    assert load_bot(tmp_path).name == "library"


def test_the_classes_and_methods_of_the_architecture_exist() -> None:
    source = {path: path.read_text(encoding="utf-8") for path in ROOT.glob("[a-z]*/**/*.py")}
    missing = []
    for owner, member in set(re.findall(r"\b([A-Z]\w+)\.([a-z_]+)\b", text_of("ARCHITECTURE.md"))):
        homes = [text for text in source.values() if re.search(rf"^class {owner}\b", text, flags=re.M)]
        if not any(re.search(rf"def {member}\b", text) for text in homes):
            missing.append(f"{owner}.{member}")
    assert missing == []


def test_the_files_of_the_architecture_exist() -> None:
    named = set(
        re.findall(
            r"\b((?:audio|nlu|dialogue|tts_stub|gateway|bench|tests|docs)/[\w/.-]+\.\w+)", text_of("ARCHITECTURE.md")
        )
    )
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
