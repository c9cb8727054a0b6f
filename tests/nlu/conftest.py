"""A random BERT small enough to train in seconds, and a bot's worth of generated examples."""

from __future__ import annotations

import itertools
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nlu.training import TrainConfig, TrainingSummary, train

HIDDEN, LAYERS, INNER = 64, 2, 128
DAYS = ("monday", "tuesday", "friday", "tomorrow", "may 5th", "the 21st")
NAMES = ("anna", "bob", "carla", "dan")
PROMISES = ("i will pay on {}", "you get it {}", "let me pay {} please")
TRANSFERS = ("get me {}", "i want to talk to {}", "is {} there")
FAREWELLS = ("bye", "goodbye", "see you", "that is all", "bye bye", "thank you bye")
OUT_OF_SCOPE = ("what is the weather", "play some music", "tell a joke", "who won the game")


def write_encoder(folder: Path, *, seed: int = 0, vocabulary: list[str] | None = None) -> Path:
    """A checkpoint in the hub's layout with random weights; its vocabulary is of the examples' words unless given."""
    folder.mkdir()
    vocabulary = vocabulary or _vocabulary()
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = {
        "model_type": "bert",
        "vocab_size": len(vocabulary),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": INNER,
        "max_position_embeddings": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_weights(len(vocabulary), seed), folder / "model.safetensors")
    return folder


def _vocabulary() -> list[str]:
    texts = [*PROMISES, *TRANSFERS, *FAREWELLS, *OUT_OF_SCOPE, *DAYS, *NAMES, "4417 account ' s"]
    words = sorted({word for text in texts for word in text.replace("{}", "").split()})
    pieces = [*"abcdefghijklmnopqrstuvwxyz0123456789", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789")]
    return list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *pieces]))


def _weights(vocabulary: int, seed: int) -> dict[str, torch.Tensor]:
    shapes = {"embeddings.word_embeddings.weight": (vocabulary, HIDDEN)}
    shapes["embeddings.position_embeddings.weight"] = (64, HIDDEN)
    shapes["embeddings.token_type_embeddings.weight"] = (2, HIDDEN)
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INNER, HIDDEN),
            ("output.dense", HIDDEN, INNER),
        ):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (rows, columns)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(shape, generator=generator) * (1.0 if "word" in name else 0.1)
        for name, shape in shapes.items()
    }
    for name, (rows, _) in shapes.items():
        if "encoder" in name:
            tensors[name.replace("weight", "bias")] = torch.zeros(rows)
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        norms += [f"encoder.layer.{layer}.{part}.output.LayerNorm" for part in ("attention",)]
        norms.append(f"encoder.layer.{layer}.output.LayerNorm")
    for norm in norms:
        tensors |= {f"{norm}.weight": torch.ones(HIDDEN), f"{norm}.bias": torch.zeros(HIDDEN)}
    return tensors


def example(text: str, intent: str, **slots: str) -> dict[str, object]:
    """One line of a data file; slots are given by their text."""
    return {
        "text": text,
        "intent": intent,
        "slots": [
            {"name": name, "start": text.index(value), "end": text.index(value) + len(value)}
            for name, value in slots.items()
        ],
    }


def examples() -> list[dict[str, object]]:
    """64 lines: two intents with a slot each, one without, and out of scope."""
    lines = [example(p.format(d), "promise", date=d) for p, d in itertools.product(PROMISES, DAYS)]
    lines += [example(p.format(n), "transfer", person=n) for p, n in itertools.product(TRANSFERS, NAMES)]
    lines += [example(text, "goodbye") for text in FAREWELLS * 3]
    return lines + [example(text, "oos") for text in OUT_OF_SCOPE * 4]


def write_lines(path: Path, lines: list[dict[str, object]]) -> Path:
    """Write a data file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small gain nothing from threads, and threads that wait for a busy core spin."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond four kilobytes, as if there were no more room; that of the test's own output neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the random encoder."""
    return write_encoder(tmp_path_factory.mktemp("nlu") / "encoder")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of examples."""
    return write_lines(tmp_path_factory.mktemp("nlu") / "examples.jsonl", examples())


@pytest.fixture(scope="session")
def trained(encoder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingSummary:
    """A model trained on the examples; tests must not change its folder."""
    out = tmp_path_factory.mktemp("nlu") / "model"
    return train(TrainConfig(train=data, dev=data, out=out, encoder=str(encoder), head_size=64, epochs=45))
