"""How fast does a caller over a prompt silence it, and does the prompt go on exactly when it should?

    python -m bench.barge_in [--calls 10] [--interruptions 200] [--others 200] [--echo-db 20] [--json FILE]

A whole gateway over loopback, in a process of its own; callers in this one, in real time, each once, somewhere over a
greeting of some seconds: one half with words that want the turn, the other with backchannels and coughs. With
`--echo-db` the line gives the bot back that much quieter, 150 ms later, and some callers say nothing at all.
Speech is that of the recordings in gateway/demo and of espeak-ng; only the recogniser is scripted, and knows an
utterance's words by a mark in the lowest bits of its samples, so that what is measured is turn taking and not
recognition. On a line with echo those bits are lost, and the loudest clip tells instead (by correlation).

    barge_in_ms     client: the first sample of speech sent -> `clear` received; budget p99 300. Which sample that is,
                    the default detector says: a recording's breath and room come before it
    wrongly on      prompts that went on though the words wanted the turn; must be 0
    ignored         share of backchannels and coughs over which, or after which, the prompt went on
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from audio.asr import AsrJob, Transcript
from audio.cascade import detector_maker
from audio.detection import DetectorSettings
from audio.endpointing import EndpointSettings
from audio.files import read_audio
from audio.formats import AudioFormat, Pcm16
from audio.inbound import InboundChain, SpeechStarted
from bench.frame_path import machine
from bench.lone_worker import listen
from dialogue.bots import Bot, load_bot
from gateway.inference.job_queue import Errand, Urgency
from gateway.inference.seam import Heard, TurnId, Understood
from nlu.meaning import OUT_OF_SCOPE, Meaning
from tts_stub.espeak import EspeakSynthesizer
from tts_stub.synthesis import Voice

RATE_HZ = 8000
FRAME = RATE_HZ // 50
FRAME_S = 0.02
DEMO = Path(__file__).parent.parent / "gateway" / "demo"
ECHO_DELAY = RATE_HZ * 150 // 1000
MARKS = 0x3F
NOISE = 38  # of the line, RMS: that of the recordings, -58 dBFS
BUDGET_MS = 300
CORRELATED = 1 << 15  # 4 s

BOT = "name: barge-in\nlanguage: en\nvoice: {name: en-us, rate: 160}\nflow: flow.yaml\nnlu: none\n"
FLOW = """
start: talk
no_input: {after_ms: never}
no_match: {prompts: [Sorry]}
nodes:
  talk:
    say:
      - I have a few things to tell you about your account, and I will take my time over every one of them.
      - The first is your bill, the second is the date on which it is due, and the third is how it can be paid.
    on: {"*": {say: All right., stay: repeat}}
"""

INTERRUPTIONS = (
    "stop", "wait", "no", "hold on", "what", "sorry what", "who is this", "i already paid", "can you repeat that",
    "not now", "okay but when", "right but not this week", "i want a person", "four four one seven",
    "等一下", "不对", "你说什么", "我已经付过了", "转人工", "是什么时候",
)  # fmt: skip
BACKCHANNELS = (
    "uh huh", "mm hmm", "okay", "yeah", "right", "i see", "got it", "sure", "oh okay", "yes yes",
    "嗯", "对", "好的", "是的", "嗯嗯", "知道了", "哦", "行",
)  # fmt: skip
COUGHS = ("", "")  # speech to a detector, no words to a recogniser


@dataclass(frozen=True, slots=True)
class Clip:
    """One thing a caller may utter, its words, and the sample at which it becomes speech."""

    words: str
    pcm: Pcm16
    onset: int
    wants_turn: bool


def speech_onset(pcm: Pcm16) -> int:
    """The first sample that the default detector and endpointer call speech."""
    chain = InboundChain(AudioFormat(), EndpointSettings(), detector_maker(DetectorSettings())(RATE_HZ))
    before = 3 * RATE_HZ
    noise = np.random.default_rng(1).normal(0, NOISE, before).astype(np.int16)
    heard = chain.push(np.concatenate([noise, pcm]).astype("<i2").tobytes())
    started = next(event for event in heard if isinstance(event, SpeechStarted))
    return max(0, started.at - before)


def clips() -> list[Clip]:
    """Clip n has n + 1 in the lowest bits of its samples; the same list in both processes."""
    recorded = [read_audio(path, RATE_HZ) for path in sorted(DEMO.glob("*.wav"))]
    voice, synthesizer = Voice("en-us+f3", 170), EspeakSynthesizer()
    made: list[Clip] = []
    for index, words in enumerate((*INTERRUPTIONS, *BACKCHANNELS, *COUGHS)):
        wants_turn = index < len(INTERRUPTIONS)
        if wants_turn:
            pcm = recorded[index % len(recorded)]
        else:
            pcm = synthesizer.synthesize(words if words.isascii() and words else "hum", voice, RATE_HZ)
        marked = ((pcm & ~MARKS) | (index + 1)).astype(np.int16)
        made.append(Clip(words, marked, speech_onset(marked), wants_turn))
    return made


# The gateway, in a process of its own.


class Scripted:
    """An inference seam that knows the clips; what it is asked costs a fast recogniser's 10 ms."""

    def __init__(self, known: Sequence[Clip], *, by_correlation: bool) -> None:
        self._clips = known
        self._spectra = [self._spectrum(clip.pcm) for clip in known] if by_correlation else []

    def expected_wait_s(self, urgency: Urgency) -> float:
        return 0.0

    async def transcribe(self, job: AsrJob, *, timeout_s: float, errand: Errand | None = None) -> Heard:
        """Words of the clip in the audio."""
        await asyncio.sleep(0.01)
        index = await asyncio.to_thread(self._correlated, job.pcm) if self._spectra else self._marked(job.pcm)
        return Heard(Transcript(text="" if index is None else self._clips[index].words), 0.0, 10.0)

    def _marked(self, pcm: Pcm16) -> int | None:
        counts = np.bincount(pcm & MARKS, minlength=MARKS + 1)
        best = int(counts[1:].argmax())  # the line's noise has them all alike
        return best if counts[1 + best] > 4 * counts.mean() else None

    def _correlated(self, pcm: Pcm16) -> int:
        heard = np.conj(self._spectrum(pcm[:CORRELATED]))
        return int(np.argmax([np.abs(np.fft.irfft(heard * spectrum)).max() for spectrum in self._spectra]))

    @staticmethod
    def _spectrum(pcm: Pcm16) -> np.ndarray[tuple[int], np.dtype[np.complex128]]:
        samples = pcm[:CORRELATED].astype(np.float64)
        return np.fft.rfft(samples / np.sqrt(samples @ samples), 2 * CORRELATED)

    async def understand(
        self, model: str, text: str, *, timeout_s: float, errand: Errand | None = None, turn: TurnId | None = None
    ) -> Understood:
        """Nothing is understood: the flow has `*`."""
        return Understood(Meaning(OUT_OF_SCOPE, 1.0), 0.0, 0.0)


def talker() -> Bot:
    """A bot that tells long stories."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bot.yaml").write_text(BOT, encoding="utf-8")
        Path(folder, "flow.yaml").write_text(FLOW, encoding="utf-8")
        return load_bot(folder)


async def serve(sock: socket.socket, ready: Callable[[], None], *, by_correlation: bool) -> None:
    """A worker on `sock`; `ready` is called once its prompts are made."""
    await listen(sock, talker(), Scripted(clips(), by_correlation=by_correlation))
    ready()
    await asyncio.Event().wait()


def run_server(pipe: Pipe, by_correlation: bool) -> None:
    """Process main: serve until killed."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=256)
    pipe.send(sock.getsockname()[1])
    uvloop.run(serve(sock, lambda: pipe.send("ready"), by_correlation=by_correlation))


# The callers.


@dataclass(slots=True)
class Tally:
    """What came of the trials."""

    barge_in_ms: list[float] = field(default_factory=list)
    interruptions: int = 0
    wrongly_on: int = 0
    others: int = 0
    ignored: int = 0
    echoes: int = 0
    echoes_held: int = 0


class Caller:
    """One call: a microphone in real time, an ear that notes when what came."""

    def __init__(self, ws: ClientConnection, echo_gain: float, seed: int) -> None:
        self._ws = ws
        self._echo_gain = echo_gain
        self._rng = np.random.default_rng(seed)
        self._speech = np.zeros(0, np.int16)
        self._onset: int | None = None
        self.sounded_at: float | None = None
        """When the first sample of speech in what is being said was sent."""
        self._bot: list[tuple[float, Pcm16]] = []
        self._plays_until = 0.0
        self.heard_at = 0.0
        """When the bot's last audio came."""
        self.events: list[tuple[float, dict[str, Any]]] = []

    async def listen(self) -> None:
        """Note what comes; audio is played as a phone does, and dropped by `clear`."""
        async for message in self._ws:
            now = time.monotonic()
            if isinstance(message, bytes):
                self.heard_at = now
                start = max(now, self._plays_until)
                pcm = np.frombuffer(message, "<i2")
                self._bot = [*self._bot[-40:], (start, pcm)]
                self._plays_until = start + len(pcm) / RATE_HZ
                continue
            event = json.loads(message)
            self.events.append((now, event))
            if event["type"] == "clear":
                self._plays_until = now
                self._bot = [(at, pcm) for at, pcm in self._bot if at < now]

    async def talk(self) -> None:
        """A frame every 20 ms: line noise, the bot's echo, and what is being said."""
        begun = time.monotonic()
        for frame in range(1 << 30):
            spoken, self._speech = self._speech[:FRAME], self._speech[FRAME:]
            heard = self._rng.normal(0, NOISE, FRAME)
            heard[: len(spoken)] = spoken  # a recording has noise of its own, as loud as this
            if self._echo_gain:
                # By the line's own clock: the delay of an echo does not jump from frame to frame.
                heard += self._echo_gain * self._played(begun + frame * FRAME_S - ECHO_DELAY / RATE_HZ)
            await self._ws.send(np.clip(np.rint(heard), -32768, 32767).astype("<i2").tobytes())
            if self._onset is not None:
                self._onset -= FRAME
                if self._onset < 0:
                    self.sounded_at, self._onset = time.monotonic(), None
            await asyncio.sleep(max(0.0, begun + (frame + 1) * FRAME_S - time.monotonic()))

    def _played(self, since: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        out = np.zeros(FRAME)
        for at, pcm in self._bot:
            first = round((at - since) * RATE_HZ)
            if -len(pcm) < first < FRAME:
                source = pcm[max(0, -first) : FRAME - first]
                out[max(0, first) : max(0, first) + len(source)] = source
        return out

    def say(self, clip: Clip) -> None:
        """Begin to speak with the next frame."""
        self._speech, self._onset, self.sounded_at = clip.pcm, clip.onset, None

    async def until(self, kind: str, since: float, within_s: float) -> float | None:
        """When the first event of a kind after `since` came, waited for."""
        by = time.monotonic() + within_s
        while time.monotonic() < by:
            if (
                at := next((at for at, event in self.events if at > since and event["type"] == kind), None)
            ) is not None:
                return at
            await asyncio.sleep(0.005)
        return None


async def one_call(port: int, clip: Clip | None, echo_gain: float, seed: int, tally: Tally) -> None:
    """Speak somewhere over the greeting (None: only its echo does), and see what comes of it."""
    rng = np.random.default_rng(seed)
    async with connect(f"ws://127.0.0.1:{port}/v1/call?sample_rate={RATE_HZ}", compression=None, proxy=None) as ws:
        caller = Caller(ws, echo_gain, seed)
        tasks = [asyncio.create_task(caller.listen()), asyncio.create_task(caller.talk())]
        await caller.until("prompt", 0.0, 5.0)
        await asyncio.sleep(rng.uniform(1.0, 4.0))
        said = time.monotonic()
        if clip is None:
            await asyncio.sleep(2.0)
            tally.echoes += 1
            tally.echoes_held += any(event["type"] == "clear" for _, event in caller.events)
        else:
            caller.say(clip)
            within_s = len(clip.pcm) / RATE_HZ + 2.5
            heard = asyncio.create_task(caller.until("transcript", said, within_s))
            cleared = await caller.until("clear", said, within_s)
            if cleared is not None and caller.sounded_at is not None:
                tally.barge_in_ms.append((cleared - caller.sounded_at) * 1000)
            answered = await heard is not None
            goes_on = not answered and time.monotonic() - caller.heard_at < 0.2
            if clip.wants_turn:
                tally.interruptions += 1
                tally.wrongly_on += not answered
            else:
                tally.others += 1
                tally.ignored += goes_on
            if answered != clip.wants_turn or (not clip.wants_turn and not goes_on):
                print(f"call {seed}: {clip.words!r} {'answered' if answered else 'not answered'}")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run(port: int, args: argparse.Namespace) -> Tally:
    """All calls, so many at a time, in an order of their own."""
    rng = np.random.default_rng(1)
    known = clips()
    wanting, others = [c for c in known if c.wants_turn], [c for c in known if not c.wants_turn]
    trials: list[Clip | None] = [wanting[n % len(wanting)] for n in range(args.interruptions)]
    trials += [others[n % len(others)] for n in range(args.others)]
    if args.echo_db is not None:
        trials += [None] * args.others
    order = [int(n) for n in rng.permutation(len(trials))]
    tally, gain = Tally(), 0.0 if args.echo_db is None else 10 ** (-args.echo_db / 20)

    async def one_after_another() -> None:
        while order:
            seed = order.pop()
            await one_call(port, trials[seed], gain, seed, tally)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(args.calls):
            tasks.create_task(one_after_another())
            await asyncio.sleep(0.05)
    return tally


def report(tally: Tally) -> dict[str, float]:
    """The figures."""
    ms = np.array(tally.barge_in_ms)
    figures = {
        "interruptions": tally.interruptions,
        "held": len(ms),
        "barge_in_ms_p50": round(float(np.quantile(ms, 0.5)), 1),
        "barge_in_ms_p99": round(float(np.quantile(ms, 0.99)), 1),
        "wrongly_on": tally.wrongly_on,
        "others": tally.others,
        "ignored": round(tally.ignored / max(1, tally.others), 4),
    }
    if tally.echoes:
        figures |= {"echo_alone": tally.echoes, "echo_alone_held": tally.echoes_held}
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10, help="at a time (default %(default)s)")
    parser.add_argument("--interruptions", type=int, default=200, help="default %(default)s")
    parser.add_argument("--others", type=int, default=200, help="backchannels and coughs (default %(default)s)")
    parser.add_argument("--echo-db", type=float, help="the line gives the bot back, so much quieter")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_server, args=(there, args.echo_db is not None), daemon=True)
    process.start()
    there.close()  # so that a server that cannot start is noticed
    try:
        port = here.recv()
        here.recv()
        tally = uvloop.run(run(port, args))
    finally:
        process.kill()
    figures = report(tally)
    for name, value in figures.items():
        print(f"{name:<18}{value:>10}")
    if args.json:
        args.json.write_text(json.dumps({**machine(), "budget_ms": BUDGET_MS, **figures}, indent=2))


if __name__ == "__main__":
    main()
