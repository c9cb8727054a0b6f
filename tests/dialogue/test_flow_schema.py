"""The schema knows the keys that the reader knows, and the bundled flows satisfy it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dialogue.bots import bundled_bots, load_bot
from dialogue.faq_yaml import load_faq
from dialogue.flow_schema import faq_schema, flow_schema
from dialogue.flow_yaml import load_flow
from dialogue.slots import SlotType

pytestmark = pytest.mark.unit

SCHEMA = flow_schema()
DEFINED = SCHEMA["$defs"]
ROOT = Path(__file__).parent.parent.parent
STRANGE = "zzzzqqqq"

# Where each definition's keys are read: a flow with a key that no section has.
PLACES = {
    "top": "{key}: 1",
    "slot": "slots: {{a: {{type: text, {key}: 1}}}}",
    "variable": "variables: {{a: {{type: text, {key}: 1}}}}",
    "no_input": "no_input: {{{key}: 1}}",
    "no_match": "no_match: {{{key}: 1}}",
    "come_back": "come_back: {{{key}: 1}}",
    "node": "nodes: {{a: {{{key}: 1}}}}",
    "transition": "anywhere: {{a: {{{key}: 1}}}}",
    "prompt": "resume: {{text: a, {key}: 1}}",
}


def keys_of(name: str) -> set[str]:
    schema = SCHEMA if name == "top" else DEFINED[name]
    form = schema if "properties" in schema else schema["anyOf"][-1]
    return set(form["properties"])


@pytest.mark.parametrize("name", PLACES)
def test_the_schema_has_the_keys_that_the_reader_reads(tmp_path: Path, name: str) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(PLACES[name].format(key=STRANGE), encoding="utf-8")
    _, faults = load_flow(path, language="en")
    (fault,) = (fault for fault in faults if STRANGE in fault.what)
    assert set(fault.mend.removeprefix("use one of ").split(", ")) == keys_of(name)


def test_every_reference_of_the_schema_leads_somewhere() -> None:
    assert set(re.findall(r"'#/\$defs/(\w+)'", str(SCHEMA))) <= set(DEFINED)


def faults_of(schema: dict[str, Any], value: object, where: str) -> list[str]:
    """What of the schema's few words for form the value breaks."""
    if "$ref" in schema:
        return faults_of(DEFINED[schema["$ref"].removeprefix("#/$defs/")], value, where)
    if "anyOf" in schema:
        each = [faults_of(option, value, where) for option in schema["anyOf"]]
        return min(each, key=len) if all(each) else []
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r}"]
    if "const" in schema and value != schema["const"]:
        return [f"{where}: {value!r}"]
    kinds = {"string": str, "integer": int, "number": int | float, "boolean": bool, "object": dict, "array": list}
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [f"{where} is {type(value).__name__}, not {schema['type']}"]
    found: list[str] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            known = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            found += faults_of(known, inner, f"{where}.{key}") if known else [f"{where}.{key} is unknown"]
        found += [f"{where}.{key} is missing" for key in schema.get("required", ()) if key not in value]
    for number, item in enumerate(value if isinstance(value, list) else ()):
        found += faults_of(schema["items"], item, f"{where}[{number}]")
    return found


def flows() -> list[Path]:
    bundled = [load_bot(name).directory for name in bundled_bots()]
    return [*(folder / "flow.yaml" for folder in bundled), bundled[0].parent / "templates" / "new" / "flow.yaml"]


@pytest.mark.parametrize("path", flows(), ids=lambda path: path.parent.name)
def test_flows_satisfy_the_schema(path: Path) -> None:
    text = re.sub(r"(: )(yes|no|on|off)\b", r'\1"\2"', path.read_text(encoding="utf-8"))
    loader = yaml.BaseLoader  # texts, as the reader takes them; numbers are checked there
    value = yaml.load(text, loader)
    assert not [fault for fault in faults_of(SCHEMA, value, "flow") if " is str, not " not in fault]


def test_a_flow_with_a_wrong_key_does_not() -> None:
    wrong = {"start": "a", "nodes": {"a": {"sya": "Hello."}}}
    assert faults_of(SCHEMA, wrong, "flow") == ["flow.nodes.a.sya is unknown"]


def test_every_key_is_documented() -> None:
    documented = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "bots.md").read_text(encoding="utf-8")))
    names = {key for name in PLACES for key in keys_of(name)} | set(DEFINED["webhook"]["properties"])
    assert names - documented == set()
    assert {slot_type.value for slot_type in SlotType} <= documented


FAQ_PLACES = {"top": "{key}: 1", "entry": "entries: {{a: {{{key}: 1}}}}"}


@pytest.mark.parametrize("name", FAQ_PLACES)
def test_the_schema_of_the_faq_has_the_keys_that_are_read(tmp_path: Path, name: str) -> None:
    schema = faq_schema()
    known = schema["properties"] if name == "top" else schema["$defs"][name]["properties"]
    path = tmp_path / "faq.yaml"
    path.write_text(FAQ_PLACES[name].format(key=STRANGE), encoding="utf-8")
    _, faults = load_faq(path, load_bot("load").flow)
    (fault,) = (fault for fault in faults if STRANGE in fault.what)
    assert set(fault.mend.removeprefix("use one of ").split(", ")) == set(known)
    assert set(known) <= set(re.findall(r"`(\w+)`", (ROOT / "docs" / "bots.md").read_text(encoding="utf-8")))
    assert set(re.findall(r"'#/\$defs/(\w+)'", str(schema))) <= set(schema["$defs"])
