"""`voicegate asr`: hear recordings, measure a recogniser, train one."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from audio.asr import Expectation
from audio.formats import AudioError
from gateway.cli.asr_train import register_train

if TYPE_CHECKING:  # ctranslate2 takes a second to import; `voicegate --help` must not
    from audio.evaluation import AsrEvaluation, ManifestLine
    from audio.phone_line import PhoneLine
    from audio.whisper import WhisperRecogniser

__all__ = ["register"]

_asr = typer.Typer(no_args_is_help=True)
_stderr = Console(stderr=True, highlight=False)
_stdout = Console(highlight=False, soft_wrap=True)

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help='A folder in CTranslate2 or Hugging Face form, a size such as "small", or a hub id.',
        show_default="the bundled model",
    ),
]
LanguageOption = Annotated[str, typer.Option("--language", help='What is spoken: "en", "zh", ..., or "auto".')]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: cuda if there is one.")]
EngineOption = Annotated[
    str,
    typer.Option("--engine", help="ctranslate2, torch, or auto: by the model's form and the machine.", metavar="NAME"),
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="CPU threads to compute with.")]
ExpectOption = Annotated[
    Expectation | None,
    typer.Option(
        "--expect", help="What the speakers were asked for, as a dialogue node says it.", show_default="anything"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")]


def register(app: typer.Typer) -> None:
    """Add the group to the program."""
    register_train(_asr)
    app.add_typer(_asr, name="asr", help="Speech recognition: hear recordings, measure a model, train one.")


@_asr.command()
def transcribe(
    audio: Annotated[list[Path], typer.Argument(help="Recordings: WAV, FLAC, Ogg, MP3 ...")],
    model: ModelOption = None,
    language: LanguageOption = "en",
    engine_name: EngineOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    expect: ExpectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is heard in recordings, as a call would hear it, gates included.

    Any rate, any number of channels, any length: stereo is mixed down, long recordings are cut at quiet
    places. Where a gate found no words in the sound, its name stands instead of them. Examples:

        voicegate asr transcribe caller.wav

        voicegate asr transcribe --expect digits account-number.wav

        voicegate asr transcribe --model small --language zh --json *.flac
    """
    with _errors_told():
        from audio.evaluation import read_utterance

        engine = _load(model, language, engine_name, device, threads)
        documents: list[dict[str, object]] = []
        audio_s = compute_s = 0.0
        for path in audio:
            recording = read_utterance(path, engine.sample_rate_hz)
            job = dataclasses.replace(recording, language=language, expect=expect)
            began = time.perf_counter()
            (heard,) = engine.transcribe([job])
            compute_s += time.perf_counter() - began
            audio_s += len(job.pcm) / job.sample_rate_hz
            documents.append({"audio": str(path), **dataclasses.asdict(heard)})
            if not as_json:
                words = heard.text or f"({heard.gated_by or 'no words'})"
                _stdout.print(f"{path}: {words}", markup=False)
    if as_json:
        _print_json({"model": engine.name, "real_time_factor": compute_s / audio_s, "results": documents})


@_asr.command(name="eval")
def evaluate_model(
    manifest: Annotated[
        Path, typer.Option("--manifest", help="Recordings and their words, JSON Lines.", show_default=False)
    ],
    model: ModelOption = None,
    language: LanguageOption = "en",
    engine_name: EngineOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    expect: ExpectOption = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Over telephone lines too: mu-law, A-law, with noise at 10 dB.")
    ] = False,
    heard: Annotated[
        Path | None,
        typer.Option(help="Write what was heard, JSON Lines: audio, text, heard, line.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a recogniser on recordings whose words are known.

    Each line of the manifest is one recording, its path relative to the manifest:

        {"audio": "clips/17.wav", "text": "zero one two"}

    Prints the word error rate (after Whisper's English normaliser, digits spelled out: "012" is "zero one
    two"), the character error rate, the number of recordings and the real-time factor. Examples:

        voicegate asr eval --manifest test/manifest.jsonl --json

        voicegate asr eval --manifest digits/manifest.jsonl --expect digits --lines --heard heard.jsonl
    """
    with _errors_told():
        from audio.evaluation import evaluate, read_manifest
        from audio.phone_line import PhoneLine

        recordings = read_manifest(manifest)
        if heard:
            _make_writable(heard, manifest)
        engine = _load(model, language, engine_name, device, threads)
        over = (None, *PhoneLine) if lines else (None,)
        results: list[AsrEvaluation] = []
        with _progress_bar() as bar:
            task = bar.add_task("recordings", total=len(over) * len(recordings))
            for line in over:
                before = len(results) * len(recordings)
                result = evaluate(
                    engine,
                    recordings,
                    sample_rate_hz=engine.sample_rate_hz,
                    language=language,
                    expect=expect,
                    line=line,
                    progress=lambda done, before=before: bar.update(task, completed=before + done),  # type: ignore[misc]  # a lambda with a default
                )
                results.append(result)
    if heard:
        with _errors_told():
            _write_heard(heard, recordings, dict(zip(over, results, strict=True)))
    if as_json:
        figures = [
            {name: value for name, value in dataclasses.asdict(one).items() if name != "heard"} for one in results
        ]
        beside = {"lines": dict(zip(PhoneLine, figures[1:], strict=True))} if lines else {}
        _print_json({**figures[0], "model": engine.name, **beside})
        return
    table = Table("", *(line or "as recorded" for line in over), show_header=lines)
    table.title, table.title_justify = f"{manifest}, {engine.name}", "left"
    table.add_row("wer", *(_percent(one.wer) for one in results))
    table.add_row("cer", *(_percent(one.cer) for one in results))
    table.add_row("n", *(str(one.n) for one in results))
    table.add_row("real_time_factor", *(f"{one.real_time_factor:.4f}" for one in results))
    table.add_row("gated", *(str(one.gated) for one in results))
    _stdout.print(table)


def _load(model: str | None, language: str, engine: str, device: str, threads: int) -> WhisperRecogniser:
    from audio.bundled import bundled_model_path
    from audio.engine_choice import load_engine

    return load_engine(model or bundled_model_path(language), engine=engine, device=device, threads=threads)


def _make_writable(path: Path, manifest: Path) -> None:
    """Say before minutes of work that a file cannot be written."""
    if path.exists() and path.samefile(manifest):
        raise AudioError(f"{path} is the manifest; name another file for --heard")
    try:
        path.open("a").close()  # what an earlier run left stands until there is something better
    except OSError as error:
        raise AudioError(f"{path}: cannot be written ({error.strerror}); name another file for --heard") from error


def _write_heard(
    path: Path, recordings: Sequence[ManifestLine], results: Mapping[PhoneLine | None, AsrEvaluation]
) -> None:
    rows = [
        {"audio": str(one.audio), "text": one.text, "heard": words, "line": line}
        for line, result in results.items()
        for one, words in zip(recordings, result.heard, strict=True)
    ]
    try:
        path.write_bytes(
            b"".join(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in rows)
        )
    except OSError as error:
        raise AudioError(f"{path}: cannot be written ({error.strerror}); what was heard is lost") from error


@contextmanager
def _errors_told() -> Iterator[None]:
    """A fault of recording, manifest or model ends the program with one line and status 1, not a traceback."""
    try:
        yield
    except AudioError as error:
        _stderr.print("[red]error:[/] " + str(error).replace("[", r"\["), soft_wrap=True)
        raise typer.Exit(1) from None


def _progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=_stderr,
        transient=True,
    )


def _print_json(document: object) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
