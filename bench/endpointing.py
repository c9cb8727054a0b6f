"""What does a longer tail buy, and what does it cost? Endpoints against labelled turns with thinking pauses.

    python -m bench.endpointing --data DIR [--turns 150] [--detectors webrtc,cascade,auto] [--html FILE] [--json FILE]

`bench/labelled_turns.py` builds the turns; each is heard clean and with a recorded background at 20, 10 and 5 dB,
through the detector and endpointer of the product, with every tail from 200 to 1,200 ms. Of every hundred turns:

    false triggers   an endpoint was decided inside the turn: the bot would have begun to answer
    cut off          more than 40 ms of the speech in the turn's last 200 ms is in no utterance, however many there
                     were: nobody will ever hear it
    missed           the utterance still open 3 s after the turn: the caller waits for an answer
    late             an endpoint later than the tail and 300 ms
    ghosts           an utterance without a sample of labelled speech, which the recogniser's gates must refuse

`delay` is from the turn's last sample of speech to the endpoint's decision, where there was one in time or late.
"""

from __future__ import annotations

import argparse
import html
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from audio.cascade import detector_maker
from audio.detection import FRAME_MS, DetectorKind, DetectorSettings
from audio.endpointing import Endpointer, EndpointSettings, EndpointState, UtteranceEnded
from bench.labelled_turns import SAMPLE_RATE_HZ, TRAIL_MS, LabelledTurn, Noises, build_turns
from gateway.machine import describe_machine

TAILS_MS = tuple(range(200, 1201, 100))
SNRS_DB: tuple[float | None, ...] = (None, 20.0, 10.0, 5.0)
FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000
LATE_MS = 300
END_SAMPLES = SAMPLE_RATE_HZ * 200 // 1000
LOST_SAMPLES = SAMPLE_RATE_HZ * 40 // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One turn heard with one tail."""

    false_triggers: int
    cut_off: bool
    missed: bool
    delay_ms: float | None
    """None: no endpoint after the turn."""
    ghosts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell: shares of turns in percent, delays in ms."""

    detector: str
    snr_db: float | None
    tail_ms: int
    turns: int
    false_triggers_pct: float
    cut_off_pct: float
    missed_pct: float
    late_pct: float
    ghosts_pct: float
    delay_p50_ms: float
    delay_p95_ms: float


@dataclass(frozen=True, slots=True)
class Heard:
    """What the endpointer made of a turn; `open_from` is where an utterance without an end begins."""

    ended: tuple[UtteranceEnded, ...]
    open_from: int | None


def listen(verdicts: Sequence[bool], tail_ms: int) -> Heard:
    """The product's endpointer over a detector's verdicts, frame by frame."""
    endpointer = Endpointer(EndpointSettings(tail_ms=tail_ms), SAMPLE_RATE_HZ)
    events = [event for verdict in verdicts for event in endpointer.push(verdict)]
    ended = tuple(event for event in events if isinstance(event, UtteranceEnded))
    if endpointer.state is EndpointState.SILENCE:
        return Heard(ended, None)
    (cut_short,) = endpointer.flush()
    return Heard(ended, cut_short.start if isinstance(cut_short, UtteranceEnded) else None)


def judge(turn: LabelledTurn, heard: Heard) -> Outcome:
    """What went wrong in one turn, if anything."""
    covered = np.zeros(len(turn.pcm), bool)
    for utterance in heard.ended:
        covered[utterance.start : utterance.end] = True
    if heard.open_from is not None:
        covered[heard.open_from :] = True
    spoken = [u for u in heard.ended if any(start < u.end and end > u.start for start, end in turn.speech)]
    last = np.zeros(len(turn.pcm), bool)
    for start, end in turn.speech:
        last[start:end] = True
    last[: turn.end - END_SAMPLES] = False
    after = [utterance.decided_at for utterance in heard.ended if utterance.decided_at >= turn.end]
    return Outcome(
        false_triggers=sum(utterance.decided_at < turn.end for utterance in spoken),
        cut_off=int(np.count_nonzero(last & ~covered)) > LOST_SAMPLES,
        missed=not after and heard.open_from is not None,
        delay_ms=(after[0] - turn.end) * 1000 / SAMPLE_RATE_HZ if after else None,
        ghosts=len(heard.ended) - len(spoken),
    )


def summarise(detector: str, snr_db: float | None, tail_ms: int, outcomes: Sequence[Outcome]) -> Row:
    """One row of the table."""
    delays = [outcome.delay_ms for outcome in outcomes if outcome.delay_ms is not None]

    def share(flags: Iterable[bool]) -> float:
        return 100 * sum(flags) / len(outcomes)

    return Row(
        detector=detector,
        snr_db=snr_db,
        tail_ms=tail_ms,
        turns=len(outcomes),
        false_triggers_pct=share(outcome.false_triggers > 0 for outcome in outcomes),
        cut_off_pct=share(outcome.cut_off for outcome in outcomes),
        missed_pct=share(outcome.missed for outcome in outcomes),
        late_pct=share(outcome.delay_ms is not None and outcome.delay_ms > tail_ms + LATE_MS for outcome in outcomes),
        ghosts_pct=share(outcome.ghosts > 0 for outcome in outcomes),
        delay_p50_ms=float(np.percentile(delays, 50)) if delays else float("nan"),
        delay_p95_ms=float(np.percentile(delays, 95)) if delays else float("nan"),
    )


def measure(data: Path, turns: int, detectors: Sequence[str]) -> list[Row]:
    """Every detector, noise and tail on the same turns."""
    corpus = build_turns(data, turns)
    noises = Noises(data)
    rows = []
    for name in detectors:
        make = detector_maker(DetectorSettings(kind=DetectorKind(name)))
        for snr_db in SNRS_DB:
            heard = []
            for seed, turn in enumerate(corpus):
                is_speech = make(SAMPLE_RATE_HZ).is_speech
                wire = noises.mix(turn, snr_db, seed).tobytes()
                step = FRAME_SAMPLES * 2
                heard.append([is_speech(wire[at : at + step]) for at in range(0, len(wire) - step + 1, step)])
            rows += [
                summarise(
                    name,
                    snr_db,
                    tail_ms,
                    [judge(turn, listen(verdicts, tail_ms)) for turn, verdicts in zip(corpus, heard, strict=True)],
                )
                for tail_ms in TAILS_MS
            ]
    return rows


def noise_name(snr_db: float | None) -> str:
    return "clean" if snr_db is None else f"{snr_db:g} dB"


def table(rows: Sequence[Row]) -> str:
    """The figures as text."""
    names = (
        ("false trig.", 13),
        ("cut off", 9),
        ("missed", 8),
        ("late", 7),
        ("ghosts", 8),
        ("delay p50", 11),
        ("p95", 7),
    )
    head = f"{'tail':>6}" + "".join(f"{name:>{width}}" for name, width in names)
    lines = []
    for (detector, snr_db), group in groupby(rows, key=lambda row: (row.detector, row.snr_db)):
        lines += ["", f"{detector}, {noise_name(snr_db)}", head]
        lines += [
            f"{row.tail_ms:>6}{row.false_triggers_pct:>11.1f} %{row.cut_off_pct:>7.1f} %{row.missed_pct:>6.1f} %"
            f"{row.late_pct:>5.1f} %{row.ghosts_pct:>6.1f} %{row.delay_p50_ms:>8.0f} ms{row.delay_p95_ms:>7.0f}"
            for row in group
        ]
    return "\n".join(lines[1:])


def in_words(rows: Sequence[Row]) -> list[str]:
    """What 300 to 800 ms buys, one line a detector and noise."""
    cells = {(row.detector, row.snr_db, row.tail_ms): row for row in rows}
    lines = []
    for detector, snr_db in dict.fromkeys((row.detector, row.snr_db) for row in rows):
        short, long = cells[detector, snr_db, 300], cells[detector, snr_db, 800]
        fewer = 100 * (1 - long.false_triggers_pct / short.false_triggers_pct) if short.false_triggers_pct else 0.0
        lines.append(
            f"{detector}, {noise_name(snr_db)}: 300 -> 800 ms takes false triggers from "
            f"{short.false_triggers_pct:.0f} % of turns to {long.false_triggers_pct:.0f} % ({fewer:.0f} % fewer) and "
            f"cut-offs from {short.cut_off_pct:.1f} % to {long.cut_off_pct:.1f} %, for "
            f"{long.delay_p50_ms - short.delay_p50_ms:.0f} ms more delay at the median; at 800 ms "
            f"{long.missed_pct:.0f} % of turns are still open {TRAIL_MS / 1000:g} s after their end"
        )
    return lines


# The page.

COLOURS = {None: "#1b6ca8", 20.0: "#3a9d6e", 10.0: "#d08a1d", 5.0: "#c0392b"}
WIDTH, HEIGHT, LEFT, BOTTOM = 420, 300, 52, 44


def plot(rows: Sequence[Row], title: str, x_of: str, y_of: str, x_label: str, x_max: float) -> str:
    """One panel of lines, a colour for each noise: an SVG element."""
    inner_w, inner_h = WIDTH - LEFT - 14, HEIGHT - BOTTOM - 30

    def x(value: float) -> float:
        return LEFT + min(value, x_max) / x_max * inner_w

    def y(value: float) -> float:
        return 30 + (1 - value / 100) * inner_h

    parts = [f'<text x="{LEFT}" y="18" class="title">{html.escape(title)}</text>']
    for percent in range(0, 101, 25):
        parts.append(f'<path class="grid" d="M{LEFT} {y(percent):.1f}h{inner_w}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(percent) + 4:.1f}" text-anchor="end">{percent} %</text>')
    parts += [
        f'<text x="{x(tick):.1f}" y="{HEIGHT - 24}" text-anchor="middle">{tick}</text>'
        for tick in range(0, int(x_max) + 1, 400)
    ]
    parts.append(f'<text x="{LEFT + inner_w / 2}" y="{HEIGHT - 6}" text-anchor="middle">{html.escape(x_label)}</text>')
    for snr_db, group in groupby(rows, key=lambda row: row.snr_db):
        cells = [(row, getattr(row, x_of), getattr(row, y_of)) for row in group]
        cells = [cell for cell in cells if cell[1] == cell[1]]
        colour = COLOURS.get(snr_db, "#555")
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for _, at, value in cells)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="{4.5 if row.tail_ms in (300, 800) else 2.2}" '
            f'fill="{colour}">'
            f"<title>{noise_name(snr_db)}, tail {row.tail_ms} ms: {value:.1f} %, delay {row.delay_p50_ms:.0f} ms"
            "</title></circle>"
            for row, at, value in cells
        ]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">{"".join(parts)}</svg>'


def page(rows: Sequence[Row], facts: dict[str, str]) -> str:
    """A page that needs nothing but itself."""
    legend = " ".join(
        f'<span style="color:{COLOURS.get(snr_db, "#555")}">&#9632; {noise_name(snr_db)}</span>'
        for snr_db in dict.fromkeys(row.snr_db for row in rows)
    )
    sections = []
    for detector, group in groupby(rows, key=lambda row: row.detector):
        own = list(group)
        delay = "median delay from the last speech to the endpoint, ms"
        panels = [
            plot(own, "False triggers", "delay_p50_ms", "false_triggers_pct", delay, 2400),
            plot(own, "Turns cut off at the end", "delay_p50_ms", "cut_off_pct", delay, 2400),
            plot(own, "Missed: no endpoint within 3 s", "tail_ms", "missed_pct", "tail, ms", 1200),
        ]
        sections.append(f"<h2>{html.escape(detector)}</h2><p>{legend}</p><div>{''.join(panels)}</div>")
    words = "".join(f"<li>{html.escape(line)}</li>" for line in in_words(rows))
    machine = html.escape(", ".join(f"{name} {value}" for name, value in facts.items()))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Endpointing: tail against false triggers</title>'
        "<style>body{font:15px/1.5 system-ui,sans-serif;margin:2rem;color:#222}svg text{font-size:11px;fill:#444}"
        "svg .title{font-size:13px;font-weight:600;fill:#222}.grid{stroke:#e3e3e3}pre{font-size:13px}"
        "footer{color:#777;font-size:12px}</style>"
        f"<h1>What a longer tail buys</h1><p>{rows[0].turns} turns with thinking pauses of 300-1,200 ms; dots are "
        "tails of 200 to 1,200 ms, the large ones 300 and 800.</p>"
        f"<ul>{words}</ul>{''.join(sections)}<pre>{html.escape(table(rows))}</pre><footer>{machine}</footer></html>\n"
    )


def main() -> None:
    """Print the table; write the page and the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with fsdd/ and speech/")
    parser.add_argument("--turns", type=int, default=150, help="how many (default %(default)s)")
    parser.add_argument("--detectors", default="webrtc,cascade,auto", help="which (default %(default)s)")
    parser.add_argument("--html", type=Path, help="write a page with the plots")
    parser.add_argument("--json", type=Path, help="write the figures")
    args = parser.parse_args()
    begun = time.monotonic()
    rows = measure(args.data, args.turns, args.detectors.split(","))
    print(table(rows), *in_words(rows), sep="\n")
    facts = {**describe_machine(), "seconds": f"{time.monotonic() - begun:.0f}"}
    if args.html:
        args.html.write_text(page(rows, facts), encoding="utf-8")
    if args.json:
        args.json.write_text(json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=2))


if __name__ == "__main__":
    main()
