"""Which vectors tell the questions of a bot's FAQ apart, and from which likeness is one answered?

    python -m bench.faq bill-reminder bill-reminder-zh [--json FILE]

The bot's folder holds `faq.dev.jsonl` and `faq.test.jsonl`: {"text": what a caller asks, "entry": its entry, or null
where the FAQ has no answer}, in other words than the FAQ's. To the dev lines come the out-of-scope lines of
`examples.dev.jsonl`. A threshold is chosen on dev, where a right answer counts 1, a wrong one -1 and an answer to what
the FAQ does not know -2; the test lines are then read once.

    word vectors       the mean of the encoder's word vectors, as they came
    fine-tuned         the mean state of the bot's own encoder, as trained on its intents
    sentence encoder   the same of the language's encoder as it came (nlu.sentence_encoder.SentenceEncoder)
    character grams    nlu.sentences.CharacterGrams

`reach` is how many of the lines with an answer the bot's model leaves to the FAQ: it takes the others for an intent.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from dialogue.bots import Bot, load_bot
from gateway.inference.faq_indexing import questions_of, said_by_callers
from gateway.machine import describe_machine
from nlu.artefact import read_artefact
from nlu.encoders import Encoder, find_encoder
from nlu.engine import NluEngine
from nlu.faq import FaqIndex
from nlu.meaning import OUT_OF_SCOPE
from nlu.sentence_encoder import SentenceEncoder
from nlu.sentences import CharacterGrams, SentenceSpace, Vectors
from nlu.tokens import LineReader, collate

__all__ = ["Asked", "Figures", "choose_threshold", "count", "read_asked"]

MAX_TOKENS = 64
WRONG, UNASKED = -1, -2


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller asks; `entry` None: the FAQ has no answer."""

    text: str
    entry: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Lines by what they got: the right answer, a wrong one; `unasked` had no answer to get and got one."""

    right: int
    wrong: int
    unasked: int
    with_answer: int
    without: int

    @property
    def worth(self) -> int:
        """What a threshold is chosen by."""
        return self.right + WRONG * self.wrong + UNASKED * self.unasked


class WordVectors:
    """The mean of an encoder's word vectors; a `SentenceSpace`."""

    threshold = 0.0

    def __init__(self, encoder: Encoder, reader: LineReader) -> None:
        self._encoder = encoder.eval()
        self._reader = reader

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `SentenceSpace.embed`."""
        batch = collate([self._reader.read(text) for text in texts])
        with torch.inference_mode():
            sums = self._encoder.wordings(batch.ids, batch.mask)
        return np.asarray(torch.nn.functional.normalize(sums, dim=1))


def read_asked(path: Path) -> list[Asked]:
    """Lines of a file of questions."""
    return [Asked(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def count(index: FaqIndex, asked: Sequence[Asked], threshold: float) -> Figures:
    """What lines get from this likeness on."""
    found = index.nearest(index.space.embed([one.text for one in asked]))
    got = [(one.entry, match.entry) for one, match in zip(asked, found, strict=True) if match.score >= threshold]
    return Figures(
        right=sum(entry == answer for entry, answer in got),
        wrong=sum(entry not in (None, answer) for entry, answer in got),
        unasked=sum(entry is None for entry, _ in got),
        with_answer=sum(one.entry is not None for one in asked),
        without=sum(one.entry is None for one in asked),
    )


def choose_threshold(index: FaqIndex, dev: Sequence[Asked]) -> float:
    """The likeness of most worth on dev, in hundredths."""
    return max((step / 100 for step in range(100)), key=lambda threshold: count(index, dev, threshold).worth)


def spaces_of(bot: Bot, questions: Sequence[tuple[str, str]]) -> Iterator[tuple[str, SentenceSpace]]:
    """What is compared."""
    assert bot.nlu_path is not None
    manifest, state, _ = read_artefact(bot.nlu_path)
    source = find_encoder(manifest.encoder)
    tuned = source.blank_encoder()
    named = {name.removeprefix("bert."): tensor for name, tensor in state.items() if name.startswith("bert.")}
    tuned.load_state_dict(named | source.read_state(layers=0))
    reader = LineReader(source.read_tokenizer(), MAX_TOKENS)
    yield "word vectors", WordVectors(tuned, reader)
    yield "fine-tuned", SentenceEncoder(tuned, reader)
    if (encoder := SentenceEncoder.of_language(bot.language, "cpu")) is not None:
        yield "sentence encoder", encoder
    known = [*(wording for _, wording in questions), *said_by_callers(bot.examples)]
    yield "character grams", CharacterGrams(known, bot.language)


def measure(bot: Bot) -> dict[str, object]:
    """All figures of one bot."""
    assert bot.nlu_path is not None
    dev, test = (read_asked(bot.directory / f"faq.{part}.jsonl") for part in ("dev", "test"))
    examples = (json.loads(line) for line in (bot.directory / "examples.dev.jsonl").read_text("utf-8").splitlines())
    dev += [Asked(line["text"], None) for line in examples if line["intent"] == OUT_OF_SCOPE]
    questions = questions_of(bot)
    results: dict[str, object] = {}
    for name, space in spaces_of(bot, questions):
        index = FaqIndex(space, questions)
        threshold = choose_threshold(index, dev)
        on_dev, on_test = count(index, dev, threshold), count(index, test, threshold)
        results[name] = {"threshold": threshold, "dev": asdict(on_dev), "test": asdict(on_test)}
        print(f"{name:18} from {threshold:.2f}  dev {shown(on_dev)}   test {shown(on_test)}")
    with_answer = [one.text for one in (*dev, *test) if one.entry is not None]
    meanings = NluEngine.load(bot.nlu_path, "cpu").predict(with_answer)
    reach = sum(m.intent == OUT_OF_SCOPE or m.score < bot.flow.min_score for m in meanings)
    print(f"reach {reach} of {len(with_answer)}")
    return {**results, "reach": reach, "with_answer": len(with_answer)}


def shown(figures: Figures) -> str:
    """A cell of the table."""
    return (
        f"{figures.right}/{figures.with_answer} right, {figures.wrong} wrong, "
        f"{figures.unasked}/{figures.without} unasked"
    )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("bots", nargs="+", metavar="BOT")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name in arguments.bots:
        print(name)
        results[name] = measure(load_bot(name))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": describe_machine(), "bots": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
