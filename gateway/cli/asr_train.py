"""`voicegate asr train`: make the bundled recogniser again, or a better one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from audio.recipe.plan import TrainingSettings
    from audio.recipe.scoring import Figure
    from audio.recipe.speech import VoiceSet
    from audio.recipe.training import Progress as TrainingProgress

__all__ = ["register_train"]

HELP = """Train the bundled English recogniser, or go on training it.

Speech is made as training goes: what callers say to a phone service, in
many synthetic voices, and human recordings where the data folder has
them, all through a random telephone channel. Run the same command again
to go on where it stopped. Ctrl-C saves first; a stopped process
(kill -STOP) waits and holds the others. Three hours of two cores make a
model for digits and the demo's domain.

\b
DATA holds recordings that may be shipped in a model; fsdd or one SET
at least, the rest makes it better:
  fsdd/*.wav               Free Spoken Digit Dataset, CC BY-SA 4.0
                           (Jakobovski/free-spoken-digit-dataset)
  speech/SET/manifest.jsonl
                           {"audio", "text", "speaker"} a line; SET is
                           speech_commands, common_voice, librispeech,
                           grid or phone_prompts
  speech/noise/*.flac      background noise, no words
  banking77/{train,test}.jsonl
                           requests written by people, CC BY 4.0

\b
OUT receives
  ct2/    the model as `--model` and `serve` take it, with MODEL_CARD.md:
          every figure, data and licences
  model/  the same for --init-from
  tests/  the tests, manifests for `voicegate asr eval --manifest`

Other voices are used where their engines are installed: Debian's flite,
festival and festvox-kallpc16k, and the wheel hibari-tts.

\b
Examples:
  voicegate asr train --out run --data data --ranks 2
  voicegate asr train --out run --data data --bot mybot \\
      --init-from other-run/model --minutes 60
  voicegate asr train --out run --data data --export-only --test-limit 50
  voicegate asr train --out sibling --data data --hold-out george
"""


def register_train(asr_app: typer.Typer) -> None:
    """Add `train` to the `asr` commands."""
    asr_app.command("train", help=HELP)(train_command)


def train_command(
    out: Annotated[Path, typer.Option(help="Folder of this training; made if absent.")],
    data: Annotated[Path, typer.Option(help="Folder of recordings and text, see above.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="Training time over all runs.")] = 180.0,
    init_from: Annotated[
        Path | None, typer.Option(help="Hugging Face folder to take weights and tokenizer from at first.")
    ] = None,
    bot: Annotated[
        Path | None,
        typer.Option(help="Bot folder: its examples.jsonl is taught too, examples.dev.jsonl is a test."),
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Speaker to test on instead of learning from, FSDD's theo or gsc_0ab3b47d; repeatable. Going on, or "
            "with --init-from: only who was held out there too."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws weights, text, voices, channels.")] = 1,
    ranks: Annotated[int, typer.Option(min=1, help="Processes that train together; one a core.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    name: Annotated[str, typer.Option(help="What reports call the model.")] = "en-small",
    version: Annotated[str, typer.Option(help="Its version.")] = "1",
    export_only: Annotated[
        bool, typer.Option("--export-only", help="Export and test the newest checkpoint, train nothing.")
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option(help="CTranslate2 folder to test beside it; a column of the card.")
    ] = None,
    test_limit: Annotated[
        int | None, typer.Option(min=1, help="First so many clips of each test only: quicker, coarser.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON on stdout.")] = False,
) -> None:
    """See HELP."""
    # Imported here: the recipe needs torch, the other commands do not.
    from audio.formats import AudioError
    from audio.recipe.plan import TrainingSettings
    from audio.recipe.trainer import load_checkpoint
    from audio.recipe.training import prepare, train
    from tts_stub.training_voices import available_voices

    console = Console(file=sys.stderr)
    settings = TrainingSettings(
        out=out,
        data=data,
        minutes=minutes,
        seed=seed,
        ranks=ranks,
        device=_device(device),
        init_from=init_from,
        bot=bot,
        held_out=tuple(hold_out or ()),
    )
    try:
        voices = available_voices()
        if export_only:
            load_checkpoint(out)  # fails before any work where there is none
        else:
            prepare(settings, voices, lambda line: console.print(line, highlight=False))
        _build_tests(settings, voices, console)
        if not export_only:
            with _shown_progress(console, minutes) as report:
                finished = train(settings, voices.live, report)
            if not finished:
                console.print(
                    "stopped and saved; the same command goes on, with --export-only it exports what there is"
                )
                return
        figures = _export(settings, voices, console, name, version, baseline, test_limit)
    except (AudioError, RuntimeError) as error:
        console.print(f"asr train: {error}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    if as_json:
        from audio.recipe.scoring import summary

        typer.echo(json.dumps({"model": str(out / "ct2"), "clean": summary(figures)}))
    else:
        console.print(f"exported {out / 'ct2'}; figures in {out / 'ct2' / 'MODEL_CARD.md'}", highlight=False)


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise typer.BadParameter(f"{wanted!r:.20} is no device; use cpu, cuda or auto")
    return wanted


@contextmanager
def _shown_progress(console: Console, minutes: float) -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar with the time left on a terminal, a line each half minute in a log."""
    if not console.is_terminal:
        yield lambda now: console.print(
            f"{now.minutes:.1f} of {minutes:.0f} min, {_told(now)}", highlight=False, soft_wrap=True
        )
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=console, refresh_per_second=0.5) as bar:
        task = bar.add_task("starting", total=minutes)
        yield lambda now: bar.update(task, completed=now.minutes, description=_told(now))


def _told(now: TrainingProgress) -> str:
    return f"{now.presentations:,} heard, {now.per_second:.0f} a second, token loss {now.token_loss:.3f}"


def _build_tests(settings: TrainingSettings, voices: VoiceSet, console: Console) -> None:
    """Make the tests once a folder of training."""
    from audio.recipe.evaluation_sets import build_tests, read_tests
    from audio.recipe.recordings import Recordings
    from audio.recipe.texts import bot_utterances, real_requests

    folder = settings.out / "tests"
    if not read_tests(folder):
        console.print("building the tests", highlight=False)
        texts = [("requests by people (BANKING77 test)", real_requests(settings.data, "test"))]
        if settings.bot and (settings.bot / "examples.dev.jsonl").exists():
            said = bot_utterances(settings.bot / "examples.dev.jsonl")
            texts.append((f"{settings.bot.name}, examples.dev.jsonl", said))
        build_tests(folder, Recordings.load(settings.data, settings.held_out), voices.unheard, texts)


def _export(
    settings: TrainingSettings,
    voices: VoiceSet,
    console: Console,
    name: str,
    version: str,
    baseline: Path | None,
    test_limit: int | None,
) -> list[Figure]:
    """Export the newest checkpoint, test it, write its card; the figures."""
    from audio.recipe.card import CardFacts, write_card
    from audio.recipe.evaluation_sets import CONDITIONS
    from audio.recipe.export import export
    from audio.recipe.recordings import Recordings
    from audio.recipe.scoring import score
    from audio.recipe.trainer import load_checkpoint
    from audio.whisper_engine import WhisperEngine

    checkpoint = load_checkpoint(settings.out)
    folder = export(
        checkpoint.network,
        checkpoint.tokenizer,
        settings.out,
        name=name,
        version=version,
        never_heard=checkpoint.never_heard,
    )

    def tested(model: Path, conditions: Sequence[str]) -> list[Figure]:
        console.print(f"testing {model}", highlight=False)
        engine = WhisperEngine(model, device="cpu")
        return score(engine, settings.out / "tests", conditions=conditions, limit=test_limit)

    figures = tested(folder, CONDITIONS)
    started_from = checkpoint.settings.get("init_from", "None")
    write_card(
        folder / "MODEL_CARD.md",
        CardFacts(
            name=name,
            version=version,
            parameters=sum(one.numel() for one in checkpoint.network.whisper.parameters()),
            size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
            presentations=checkpoint.presentations,
            minutes=checkpoint.minutes,
            seed=str(checkpoint.settings["seed"]),
            started_from="" if started_from == "None" else _short(Path(started_from)),
            voices=[voices.live().name, *(maker.name for maker in voices.slow)],
            test_voices=[test for test, _ in voices.unheard],
            recordings=Recordings.load(settings.data, checkpoint.never_heard).sources(),
            held_out=checkpoint.never_heard,
            figures=figures,
            baseline=_short(baseline) if baseline else "",
            baseline_figures=tested(baseline, CONDITIONS[:1]) if baseline else (),
        ),
    )
    return figures


def _short(model: Path) -> str:
    """A model's folder as the card names it: no path of this machine."""
    return "/".join(model.resolve().parts[-2:])
