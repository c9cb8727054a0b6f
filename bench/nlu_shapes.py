"""How far does a process grow by the shapes of the texts that it understands, and what does a bound cost?

    python -m bench.nlu_shapes [--seconds 20] [--kept 1024 256 128] [--model DIR] [--data FILE]

For each shape (texts in a batch, tokens of the longest) oneDNN compiles kernels of its own and keeps them (see
`nlu.packing.MOST_KERNELS`). Batches of one to 32 of the lines of a file, 6 in the mean, no two alike, for so many
seconds of CPU; each bound in a process of its own. Memory is the growth since the model was loaded, after what is free
was given back.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from gateway.machine import describe_machine
from nlu.data import read_dataset
from nlu.packing import KERNEL_CACHES

BOT = Path(__file__).parent.parent / "dialogue" / "bots" / "bill-reminder"


def resident_mb() -> float:
    """What this process holds once what it does not need is given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(model: Path, data: Path, seconds: float) -> str:
    """One process's figures, as a row."""
    import torch

    from nlu.engine import NluEngine

    torch.set_num_threads(1)
    engine = NluEngine.load(model)
    texts = [example.text for example in read_dataset(data).examples]
    rng = random.Random(3)
    before_mb, began, understood = resident_mb(), time.thread_time(), 0
    half_mb = 0.0
    while (spent_s := time.thread_time() - began) < seconds:
        batch = min(32, max(1, int(rng.expovariate(1 / 6))))
        engine.predict(rng.choices(texts, k=batch))
        understood += batch
        if not half_mb and spent_s > seconds / 2:
            half_mb = resident_mb() - before_mb
    return f"{understood:>8,} {1e3 * spent_s / understood:>10.2f} {half_mb:>12.0f} {resident_mb() - before_mb:>10.0f}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--kept", type=int, nargs="+", default=[1024, 256, 128])
    parser.add_argument("--model", type=Path, default=BOT / "nlu")
    parser.add_argument("--data", type=Path, default=BOT / "examples.jsonl")
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        print(measure(args.model, args.data, args.seconds))
        return
    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average']}, torch {machine['torch']}")
    print("    kept    texts  CPU ms/text  MB by half    MB then")
    for kept in args.kept:
        # Read by the libraries once a process, so each bound wants its own.
        child = subprocess.run(
            [sys.executable, "-m", "bench.nlu_shapes", *sys.argv[1:], "--row"],
            env={**os.environ, **dict.fromkeys(KERNEL_CACHES, str(kept))},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        print(f"{kept:>8} {child.stdout.rstrip()}", flush=True)


if __name__ == "__main__":
    main()
