"""Bots: a folder with `bot.yaml`, a flow, examples and an NLU artefact. The bundled ones are in `bots/`.

```yaml
name: bill-reminder
version: "1"
language: en
voice: {name: en-us, rate: 160}      # an espeak-ng voice; words per minute; by default the language's
flow: flow.yaml
nlu: nlu                             # artefact folder; may be another bot's
examples: [examples.jsonl, examples.dev.jsonl]
```

`assistant` is the section of `dialogue.assistant`. A file `faq.yaml` beside it, where there is one, is the bot's FAQ
(`dialogue.faq_yaml`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dialogue.assistant import Assistant, read_assistant
from dialogue.faq_yaml import FAQ_FILE, load_faq
from dialogue.flow import Flow
from dialogue.flow_yaml import load_flow
from dialogue.slots import LANGUAGES
from dialogue.turns import DialogueError, Say
from dialogue.yaml_source import Fault, Faults, Section, read_yaml

__all__ = ["Bot", "BotError", "LargerModel", "Voice", "bundled_bots", "load_bot"]

_BUNDLED = Path(__file__).parent / "bots"


class BotError(DialogueError):
    """A bot that cannot be used. `faults` are all of them, in file and line order."""

    def __init__(self, name: str, faults: list[Fault]) -> None:
        lines = "\n".join(map(str, faults))
        super().__init__(f"bot {name!r} has {len(faults)} fault{'s'[: len(faults) != 1]}:\n{lines}")
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Voice:
    """The synthesiser's voice name and its rate in words per minute."""

    name: str
    rate: int


_VOICES = {"en": Voice("en-us", 160), "zh": Voice("cmn", 150)}
"""By language: another's voice reads its words as no words at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargerModel:
    """Whom to ask where the bot's own model is in doubt: its intent's probability below `below`, or out of scope."""

    nlu_path: Path
    below: float
    within_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """One bot, checked. Immutable, shared by all its calls. `nlu_path` may not exist yet (not trained); `examples` are
    the files of what its callers say."""

    name: str
    version: str
    language: str
    voice: Voice
    flow: Flow
    directory: Path
    nlu_path: Path | None
    second_opinion: LargerModel | None = None
    examples: tuple[Path, ...] = ()
    assistant: Assistant | None = None

    def fixed_prompts(self) -> list[Say]:
        """Every prompt without slot values, once, the first words first: to be rendered before calls come."""
        unique: dict[tuple[str, str | None], Say] = {}
        for prompt in self.flow.prompts():
            if not prompt.slots:
                said = Say(text=prompt.text, node="", recording=prompt.recording)
                unique.setdefault((prompt.text, prompt.recording), said)
        return list(unique.values())


def bundled_bots() -> list[str]:
    """Names of the bots that come with the package."""
    return sorted(path.parent.name for path in _BUNDLED.glob("*/bot.yaml"))


def load_bot(name_or_dir: str | Path) -> Bot:
    """Load a bundled bot by name, or any bot by its folder.

    Raises:
        BotError: with every fault of its files, each with file, line and mend.
    """
    bundled = _BUNDLED / name_or_dir
    directory = bundled if str(name_or_dir) in bundled_bots() else Path(name_or_dir)
    path = directory / "bot.yaml"
    faults = Faults(str(path))
    if not path.is_file():
        known = ", ".join(bundled_bots())
        faults.add(1, "there is no such file", f"give a bot's folder, or a bundled bot: {known}")
        raise BotError(str(name_or_dir), faults.found)
    top = read_yaml(path, "the bot", faults)
    if top is None:
        raise BotError(str(name_or_dir), faults.found)
    bot = _read(top, directory, faults)
    if bot is None or faults.found:
        raise BotError(str(name_or_dir), faults.found)
    return bot


def _read(top: Section, directory: Path, faults: Faults) -> Bot | None:
    for key, mend in (
        ("name", "name the bot"),
        ("language", "add `language: en`"),
        ("flow", "add `flow: flow.yaml`"),
    ):
        top.require(key, mend)
    name, version, language = (top.text(key) for key in ("name", "version", "language"))
    flow_file, nlu = top.text("flow"), top.text("nlu")
    voice = _voice(top.section("voice"), language.text if language else "")
    larger = _larger_model(top, directory, faults)
    assistant = read_assistant(top, language.text if language else "", faults)
    files = top.texts("examples")
    if language and language.text not in LANGUAGES:
        faults.add(language.line, f"language {language.text!r} has no slot readers", f"use {', '.join(LANGUAGES)}")
    before = len(faults.found)
    intents: set[str] = set()
    for file in files:
        intents |= _intents(directory / file.text, faults)
    # A broken examples file is one fault, not one for every intent that it would have held.
    known = intents if files and len(faults.found) == before else None
    top.finish()
    if not name or not language or language.text not in LANGUAGES or not flow_file:
        return None
    flow, wrong = load_flow(directory / flow_file.text, language=language.text, intents=known)
    faults.found.extend(wrong)
    if flow is None:
        return None
    if (faq_file := directory / FAQ_FILE).is_file():
        faq, wrong = load_faq(faq_file, flow)
        faults.found.extend(wrong)
        flow = replace(flow, faq=faq) if faq is not None else flow
        if nlu is None:
            faults.add(1, f"without 'nlu' nobody looks into {FAQ_FILE}", "name a model, or remove the file")
    return Bot(
        name=name.text,
        version=version.text if version else "0",
        language=language.text,
        voice=voice,
        flow=flow,
        directory=directory.resolve(),
        nlu_path=(directory / nlu.text).resolve() if nlu else None,
        second_opinion=larger,
        examples=tuple((directory / file.text).resolve() for file in files),
        assistant=assistant,
    )


def _larger_model(top: Section, directory: Path, faults: Faults) -> LargerModel | None:
    section = top.section("second_opinion")
    if section is None:
        return None
    section.require("nlu", "name the larger model's folder")
    nlu = section.text("nlu")
    below = section.decimal("below", low=0, high=1)
    within_ms = section.integer("within_ms", low=10, high=5000)
    section.finish()
    if "nlu" not in top:
        faults.add(top.line_of("second_opinion"), "a second opinion without a first", "name the bot's own `nlu` too")
    if nlu is None:
        return None
    return LargerModel(
        nlu_path=(directory / nlu.text).resolve(),
        below=float(below) if below is not None else 0.9,
        within_s=(within_ms or 200) / 1000,
    )


def _voice(section: Section | None, language: str) -> Voice:
    usual = _VOICES.get(language, _VOICES["en"])
    if section is None:
        return usual
    name, rate = section.text("name"), section.integer("rate", low=80, high=450)
    section.finish()
    return Voice(name.text if name else usual.name, rate or usual.rate)


def _intents(path: Path, faults: Faults) -> set[str]:
    """Intents of an examples file; its malformed lines become faults."""
    mine = Faults(str(path))
    found = set(_example_intents(path, mine))
    faults.found.extend(mine.found)
    return found


def _example_intents(path: Path, faults: Faults) -> Iterator[str]:
    mend = 'write {"text": "...", "intent": "...", "slots": [{"name": "...", "start": 0, "end": 1}]}'
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        faults.add(1, "examples file cannot be read", "create it, or correct `examples` in bot.yaml")
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
            text, intent, slots = example["text"], example["intent"], example.get("slots", [])
            sane = isinstance(text, str) and isinstance(intent, str)
            spans = [(slot["name"], slot["start"], slot["end"]) for slot in slots]
        except (ValueError, KeyError, TypeError, AttributeError):
            faults.add(number, "not an example", mend)
            continue
        if not sane or any(not 0 <= start < end <= len(text) for _, start, end in spans):
            faults.add(number, "an example with wrong types or slot offsets", mend)
            continue
        yield intent
