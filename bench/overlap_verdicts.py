"""Are words over a prompt judged as a person would: does the bot go on after "uh-huh", and give way to "wait"?

    python -m bench.overlap_verdicts [--split test] [--show] [--json FILE]

Labelled wordings, English and Chinese, each judged once as words in the middle of a statement, greetings as the first
words of a call. `bench/overlaps/test.jsonl` is for measuring; the lists in `dialogue.backchannels` were extended by
what failed of `dev.jsonl` alone.

    backchannel     the prompt must go on. English, test: every acknowledgement (tags b, bk, bh) in three conversations
                    of the Switchboard Dialogue Act Corpus (2131, 2836, 3528), as often as it was said, but for echoes
                    of the other's words; dev: the wordings in eight others (2022, 2060, 2121, 2434, 2647, 2753, 3009,
                    3756), and what we wrote down. Chinese: what we wrote down, split by checksum
    agreement       agreements and appreciations of up to five words there (tags aa, ba), but for a bare "no": the
                    prompt should go on. Who is taken for more loses half a sentence; "that's awful" may be a complaint
    interruption    the bot must give way: written by us, split by checksum; and what callers of the bundled bots say in
                    their examples, agreement aside (dev: those they are trained on, test: the others)
    hello           what callees say on picking up: the greeting must go on

Much of it is our own idea of what people say; its figures are of wordings, not of callers.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from bench.frame_path import machine
from dialogue.bots import load_bot
from gateway.calls.interruption import Overlap, Verdict, judge
from gateway.settings import load

__all__ = ["Kind", "Row", "Wording", "rows", "wordings"]

FOLDER = Path(__file__).parent / "overlaps"
BOTS = ("bill-reminder", "bill-reminder-zh")
TRAINED_ON = "examples.jsonl"
AGREEMENT = "affirm"
STATEMENT = Overlap(question=False, left_ms=4000, call_age_ms=10_000)
GREETING = Overlap(question=False, left_ms=4000, call_age_ms=800)

Kind: TypeAlias = Literal["backchannel", "agreement", "interruption", "hello"]
Split: TypeAlias = Literal["dev", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What a caller says over a prompt, and what it is."""

    text: str
    kind: Kind
    language: str
    source: str
    count: int = 1
    """How often it was said, where that is known."""


def wordings(split: Split) -> list[Wording]:
    """All of a split, each text of a kind and language once."""
    lines = (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    listed = [Wording(**json.loads(line)) for line in lines]
    return list({(one.language, one.kind, one.text): one for one in (*listed, *_callers_words(split))}.values())


def _callers_words(split: Split) -> Iterator[Wording]:
    """What wants the turn in the examples of the bundled bots."""
    for name in BOTS:
        bot = load_bot(name)
        for path in sorted(bot.directory.glob("examples*.jsonl")):
            if (path.name == TRAINED_ON) != (split == "dev"):
                continue
            for line in path.read_text(encoding="utf-8").splitlines():
                example = json.loads(line)
                if example["intent"] != AGREEMENT:
                    yield Wording(text=example["text"], kind="interruption", language=bot.language, source="callers")


def judged_right(wording: Wording, hello_ms: int) -> bool:
    """Whether the bot does what the label says: goes on, or gives way."""
    over = GREETING if wording.kind == "hello" else STATEMENT
    verdict = judge(wording.text, over, answers=False, hello_ms=hello_ms)
    return (verdict is Verdict.INTERRUPTION) == (wording.kind == "interruption")


@dataclass(slots=True, kw_only=True)
class Row:
    """Wordings of one language, kind and source."""

    wordings: int = 0
    said: int = 0
    right: int = 0
    """Of those said."""
    wrong: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Right of those said."""
        return self.right / self.said

    def add(self, wording: Wording, *, right: bool) -> None:
        """Count one in."""
        self.wordings += 1
        self.said += wording.count
        self.right += wording.count * right
        if not right:
            self.wrong.append(wording.text)


def rows(measured: Iterable[Wording]) -> dict[tuple[str, str, str], Row]:
    """What came of them by kind, language and source, each kind with all of it first."""
    table: dict[tuple[str, str, str], Row] = defaultdict(Row)
    hello_ms = load(environ={}).turns.hello_ms
    for one in measured:
        right = judged_right(one, hello_ms)
        for key in ((one.kind, "", "all"), (one.kind, one.language, one.source)):
            table[key].add(one, right=right)
    return dict(sorted(table.items()))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("dev", "test"), default="test", help="default: %(default)s")
    parser.add_argument("--show", action="store_true", help="name what was judged wrong")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    table = rows(wordings(args.split))
    print(f"{'kind':<14}{'':<4}{'from':<13}{'wordings':>9}{'said':>7}{'right':>8}")
    for (kind, language, source), row in table.items():
        print(f"{kind:<14}{language:<4}{source:<13}{row.wordings:>9}{row.said:>7}{row.share:>8.1%}")
        if args.show and row.wrong and language:
            print("   " + " | ".join(row.wrong))
    if args.json:
        figures = [
            {"kind": kind, "language": language, "source": source, **asdict(row)}
            for (kind, language, source), row in table.items()
        ]
        document = {**machine(), "split": args.split, "rows": figures}
        args.json.write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
