"""A public Chinese set in the project's own form: caller turns of CrossWOZ, each with one intent and its slots.

    python -m bench.crosswoz [--data ../shared/data/zh_crosswoz] --out FOLDER
    voicegate nlu train --language zh --train FOLDER/train.jsonl --dev FOLDER/dev.jsonl --out MODEL
    voicegate nlu eval --model MODEL --data FOLDER/test.jsonl

CrossWOZ (Zhu et al. 2020, "CrossWOZ: A Large-Scale Chinese Cross-Domain Task-Oriented Dialogue Dataset", Apache-2.0)
labels a turn with several acts, [act, domain, slot, value]. What becomes a line here:

- Its `Inform` values are the slots, named "domain-slot". A turn with a value that its text does not hold word for word
  is left out, for nobody could say where its slot is; so is one with a yes or no for a value (a hotel's facilities).
- Its intent is what it does besides telling values and being polite: one act in one domain ("Request-酒店"); telling
  ("Inform-酒店") where it does nothing else, courtesy ("General-thank") where it does not even tell. A turn that does
  several things is left out.

The validation dialogues give `train.jsonl`, but for every tenth, whose turns give `dev.jsonl`; the test dialogues
give `test.jsonl`. So no dialogue stands on two sides.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

__all__ = ["example", "lines"]

Act: TypeAlias = tuple[str, str, str, str]
"""Act, domain, slot, value."""
Line: TypeAlias = dict[str, object]
Dialogue: TypeAlias = dict[str, list[dict[str, object]]]

DEV_EVERY = 10
YES_NO = ("是", "否")


def example(text: str, acts: Iterable[Act]) -> Line | None:
    """A turn as a line of examples; None where it does not fit one."""
    acts = list(acts)
    told = [act for act in acts if act[0] == "Inform"]
    done = {(act, domain) for act, domain, _, _ in acts if act not in ("Inform", "General")}
    intents = done or {(act, domain) for act, domain, _, _ in told} or {(act[0], act[1]) for act in acts}
    if len(intents) != 1:
        return None
    slots: list[Line] = []
    for _, domain, slot, value in told:
        start = text.find(value)
        if start < 0 or value in ("", *YES_NO):
            return None
        slots.append({"name": f"{domain}-{slot}", "start": start, "end": start + len(value)})
    return {"text": text, "intent": "-".join(intents.pop()), "slots": slots}


def lines(dialogues: Iterable[Dialogue]) -> Iterator[Line]:
    """The lines of all users' turns, in order."""
    for dialogue in dialogues:
        for message in dialogue["messages"]:
            acts = message["dialog_act"]
            if message["role"] == "usr" and isinstance(acts, list) and (line := example(str(message["content"]), acts)):
                yield line


def _read(path: Path) -> list[Dialogue]:
    with zipfile.ZipFile(path) as archive:
        return list(json.loads(archive.read(archive.namelist()[0])).values())


def _write(path: Path, written: list[Line]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in written), encoding="utf-8")
    print(f"{path}: {len(written)} lines, {len({line['intent'] for line in written})} intents")


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(__file__).parents[2] / "shared" / "data" / "zh_crosswoz"
    parser.add_argument("--data", type=Path, default=data, help="folder with val.json.zip and test.json.zip")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    dialogues = _read(args.data / "val.json.zip")
    held_out = dialogues[::DEV_EVERY]
    _write(args.out / "train.jsonl", list(lines(d for i, d in enumerate(dialogues) if i % DEV_EVERY)))
    _write(args.out / "dev.jsonl", list(lines(held_out)))
    _write(args.out / "test.jsonl", list(lines(_read(args.data / "test.json.zip"))))


if __name__ == "__main__":
    main()
