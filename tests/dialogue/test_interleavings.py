"""Random interleavings of everything that can go wrong with one call, on a real Valkey, against a model.

Two workers, a caller, an operator's system. The caller answers the bot's questions under numbers of their own, and says
what was not answered again under the same number, to whichever worker has the line. Between, and in the middle of it:
requests and answers are lost, workers die, lines move from one to the other while the old one goes on writing, rounds
come twice at once, Redis dies and comes back, a worker is cut off from it.

The model is `step` itself: the rounds that were answered, folded in order, without any store.

| what must hold | |
| --- | --- |
| no slot is lost, no round counts twice | the state in Redis is the fold |
| no answer changes | the same number again has the same actions, whoever asks |
| no act twice | the operator sees one key for each act of the fold, always with the same content, and no other |
| fenced writers are refused | a loop that has lost the call raises, or repeats what was answered |

Steps taken by a worker that is cut off are its own until it is back: the model drops them where another worker takes
the call over, or the worker dies, and then none of their acts may have been done.

    INTERLEAVINGS=5000 python -m pytest tests/dialogue/test_interleavings.py       # by default 120
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialogue.bots import Bot, load_bot
from dialogue.loop import DialogueLoop, Step
from dialogue.state import DialogueState
from dialogue.step import step
from dialogue.store import Claim, FencedError, RedisStore, RoundError, StepWrite, StoreError, WriteResult
from dialogue.turns import Action, CallerSaid, CallerSilent, CallStarted, CallWebhook, WebhookAnswered
from dialogue.write_back import WriteBackStore
from tests.dialogue.bot_calls import said
from tests.dialogue.valkey import Valkey, valkey

pytestmark = [pytest.mark.redis, pytest.mark.timeout(3600)]

EXAMPLES = int(os.environ.get("INTERLEAVINGS", "120"))
TODAY = date(2026, 11, 21)
BOT = "name: counter\nlanguage: en\nvoice: {name: en-us, rate: 160}\nflow: flow.yaml\n"
FLOW = """
start: number
no_input: {after_ms: never}
webhooks: {note: {url: "https://crm.example/notes", send: [number], take: {ticket: id}}}
slots:
  number: {type: digits, length: 3}
  ticket: {type: text}
nodes:
  number: {ask: Which number, collect: number, then: note}
  note: {webhook: note, then: noted, failed: noted}
  noted: {ask: "{number} is noted. More?", on: {more: {to: number, forget: [number]}}}
"""
_calls = count(1)


class Op(StrEnum):
    """What happens next."""

    SAY = "say"
    REPEAT = "repeat"
    """An old round comes again."""
    TWICE = "twice"
    """The next round comes to both workers at once."""
    RECONNECT = "reconnect"
    """The line moves; the loop that had it lives on."""
    STALE = "stale"
    """A loop that has lost the call says something."""
    LOSE_REQUEST = "lose request"
    LOSE_ANSWER = "lose answer"
    CUT = "cut"
    """A worker no longer reaches Redis: it keeps steps in memory."""
    MEND = "mend"
    DIE_BEFORE_ACT = "die before act"
    DIE_AFTER_ACT = "die after act"
    DIE = "die"
    """A worker's memory is gone, calls and all."""
    RESTART = "restart"
    """Redis is killed and comes back with its append-only file."""


class Line(RedisStore):
    """One worker's line to Redis."""

    lose = ""
    """Of the next command: "request" or "answer"."""
    cut = False

    async def claim(self, call_id: str, *, owner: str | None) -> Claim:
        self._send()
        claim = await super().claim(call_id, owner=owner)
        self._receive()
        return claim

    async def reclaim(self, call_id: str, *, owner: str, epoch: int) -> Claim:
        self._send()
        claim = await super().reclaim(call_id, owner=owner, epoch=epoch)
        self._receive()
        return claim

    async def write(self, call_id: str, step: StepWrite) -> WriteResult:
        self._send()
        result = await super().write(call_id, step)
        self._receive()
        return result

    async def server_id(self) -> str:
        if self.cut:
            raise StoreError("cut off")
        return await super().server_id()

    def _send(self) -> None:
        if self.cut:
            raise StoreError("cut off")
        if self.lose == "request":
            self.lose = ""
            raise StoreError("the request was lost")

    def _receive(self) -> None:
        if self.lose == "answer":
            self.lose = ""
            raise StoreError("the answer was lost")


class Worker:
    """A process: its line to Redis and its memory."""

    def __init__(self, url: str) -> None:
        line = Line.connect(url, timeout_s=10)
        assert isinstance(line, Line)
        self.line = line
        self.store = self._memory()

    def _memory(self) -> WriteBackStore:
        return WriteBackStore(self.line, grace_s=0.0, probe_s=0.002)

    async def start(self) -> None:
        self.line.cut, self.line.lose = False, ""
        self.store = self._memory()
        await self.store.__aenter__()

    async def end(self, *, suddenly: bool = False) -> None:
        """Suddenly: what it kept is lost."""
        was, self.line.cut = self.line.cut, self.line.cut or suddenly
        await self.store.__aexit__(None, None, None)
        self.line.cut = was

    async def back(self) -> None:
        """Until it reaches Redis and has written what it kept."""
        self.line.cut = False
        async with asyncio.timeout(30):
            while self.store.away:
                await asyncio.sleep(0.002)


@dataclass
class Model:
    """What the caller and the operator know."""

    said: dict[int, CallerSaid] = field(default_factory=dict)
    """Rounds that were answered."""
    answers: dict[int, tuple[Action, ...]] = field(default_factory=dict)
    tickets: dict[int, WebhookAnswered] = field(default_factory=dict)
    acts: dict[int, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """What the operator was asked, by the act's number."""
    lasting: int = 0
    """The last round known to be in Redis."""

    def fold(self, bot: Bot) -> DialogueState:
        """The state that these rounds make."""
        state, _ = step(bot.flow, DialogueState(), CallStarted(today=TODAY.isoformat()))
        for number in sorted(self.said):
            state, actions = step(bot.flow, state, self.said[number], round_id=number)
            for action in actions:
                if isinstance(action, CallWebhook) and action.act in self.tickets:
                    state, _ = step(bot.flow, state, self.tickets[action.act])
        return state

    def drop_after(self, number: int) -> None:
        """Rounds that were kept by one worker alone."""
        for late in [one for one in self.said if one > number]:
            del self.said[late], self.answers[late]


class Call:
    """One call, its caller, its operator."""

    def __init__(self, bot: Bot, workers: list[Worker], server: Valkey) -> None:
        self.bot, self.workers, self.server = bot, workers, server
        self.call_id = f"interleaved-{next(_calls)}"
        self.model = Model()
        self.at = 0
        self.loop: DialogueLoop | None = None
        self.stale: list[tuple[DialogueLoop, Worker]] = []
        self.die_at_act = ""
        self.unsure = False
        """A worker took the call over from memory, or did not hear whether it had: either may be fenced."""

    async def play(self, ops: list[tuple[Op, int]]) -> None:
        await self.line_to(0)
        for op, number in ops:
            await self.do(op, number)
        for worker in self.workers:
            worker.line.lose = ""
            await worker.back()
        self.die_at_act = ""
        await self.say(self.next_words())
        await self.check()

    async def do(self, op: Op, number: int) -> None:
        worker = self.workers[number % 2]
        match op:
            case Op.SAY:
                await self.say(self.next_words())
            case Op.REPEAT:
                if known := sorted(self.model.said):
                    await self.repeat(known[number % len(known)])
            case Op.TWICE:
                await self.say_twice(self.next_words())
            case Op.RECONNECT:
                await self.move_to(number % 2)
            case Op.STALE:
                await self.say_in_vain(number)
            case Op.LOSE_REQUEST | Op.LOSE_ANSWER:
                worker.line.lose = op.value.partition(" ")[2]
            case Op.CUT:
                worker.line.cut = True
            case Op.MEND:
                await worker.back()
                await self.note_lasting(worker)
            case Op.DIE_BEFORE_ACT | Op.DIE_AFTER_ACT:
                self.die_at_act = op.value.split()[1]
            case Op.DIE:
                await self.die(number % 2)
            case Op.RESTART:
                self.server.kill()
                self.server.start()

    # The caller.

    def next_words(self) -> CallerSaid:
        """Digits where a number is asked for, else "more"."""
        node = self.model.fold(self.bot).node
        number = max(self.model.said, default=0) + 1
        return said("inform", f"[{100 + number % 900}](number)") if node == "number" else said("more", "more please")

    async def say(self, words: CallerSaid) -> None:
        """Until it is answered; the line moves where its worker cannot go on."""
        number = max(self.model.said, default=0) + 1
        while True:
            loop = await self.line_to(self.at)
            number = max(self.model.said, default=0) + 1  # rounds kept by a worker that is gone are said again
            words = self.next_words()
            try:
                answered = await loop.handle(words, round_id=number)
            except StoreError:
                continue
            except FencedError:
                self.lose_the_call()
                continue
            self.hear(number, words, answered)
            if await self.perform(answered):
                return

    async def repeat(self, number: int) -> None:
        loop = await self.line_to(self.at)
        if number not in self.model.said:
            return
        with suppress(StoreError):  # a worker that is cut off knows only what it has answered itself
            try:
                again = await loop.handle(self.model.said[number], round_id=number)
            except FencedError:
                self.lose_the_call()
                return
            assert again.repeated and again.actions == self.model.answers[number]

    async def say_twice(self, words: CallerSaid) -> None:
        if any(worker.store.away or worker.line.cut or worker.line.lose for worker in self.workers):
            return
        loop = await self.line_to(self.at)
        number, words = max(self.model.said, default=0) + 1, self.next_words()
        other = self.loop_at(1 - self.at)
        await other.open(exclusive=False)
        try:
            await self.workers[self.at].store.settle(self.call_id)
        except FencedError:
            self.lose_the_call()
            return
        one, two = await asyncio.gather(loop.handle(words, round_id=number), other.handle(words, round_id=number))
        assert one.actions == two.actions and one.repeated != two.repeated
        self.hear(number, words, one)
        if not await self.perform(one):
            await self.line_to(self.at)

    def hear(self, number: int, words: CallerSaid, answered: Step) -> None:
        """An answer: the first, or the same again."""
        assert self.model.answers.setdefault(number, answered.actions) == answered.actions
        self.model.said[number] = words
        if not self.workers[self.at].store.away:
            self.model.lasting = max(self.model.said)

    def lose_the_call(self) -> None:
        """Another has it, which must be so for a reason. What was kept here is lost, and shows with the next `open`."""
        assert self.unsure
        self.loop = None

    # The line.

    def loop_at(self, index: int) -> DialogueLoop:
        return DialogueLoop(
            self.bot, self.workers[index].store, self.call_id, today=lambda: TODAY, clock=lambda: 1.75e9
        )

    async def line_to(self, index: int) -> DialogueLoop:
        """The loop that has the call: the present one, or a new one at this worker, else at the other."""
        tries = 0
        while self.loop is None:
            loop = self.loop_at(index)
            try:
                opened = await loop.open()
            except StoreError:
                index, self.unsure = 1 - index, True
                if all(worker.line.cut for worker in self.workers):
                    await self.workers[index].back()
                continue
            except FencedError:  # it went on from an old memory, and heard of it with its first step
                tries += 1
                assert tries < 4
                continue
            away = self.workers[index].store.away
            if away and loop.state.round_id < self.model.lasting:
                await self.is_behind(loop, self.workers[index])
                continue
            # What the store has may be less than was answered, but not less than was answered and stored.
            assert loop.state.round_id >= self.model.lasting
            self.model.drop_after(loop.state.round_id)
            self.loop, self.at, self.unsure = loop, index, away
            if not away:
                self.model.lasting = max(self.model.said, default=0)
            if not await self.perform(opened):
                self.loop = None
        return self.loop

    async def is_behind(self, loop: DialogueLoop, worker: Worker) -> None:
        """A worker that is cut off, and has not heard that the other had the call since, goes on from an old state:
        what it does there comes to nothing, and it learns so."""
        await loop.handle(CallerSilent())
        await worker.back()
        with pytest.raises(FencedError):
            await loop.handle(CallerSilent())

    async def note_lasting(self, worker: Worker) -> None:
        """What this worker kept is in Redis now, where it still has the call."""
        if self.loop is not None and worker is self.workers[self.at]:
            with suppress(FencedError):
                await worker.store.settle(self.call_id)
                self.model.lasting = max(self.model.said, default=0)

    async def move_to(self, index: int) -> None:
        if self.loop is not None:
            self.stale.append((self.loop, self.workers[self.at]))
        self.loop = None
        await self.line_to(index)

    async def die(self, index: int) -> None:
        """A worker's process ends: its loops, and what it kept."""
        await self.workers[index].end(suddenly=True)
        await self.workers[index].start()
        self.stale = [(loop, at) for loop, at in self.stale if at is not self.workers[index]]
        if self.at == index:
            self.loop = None

    async def say_in_vain(self, number: int) -> None:
        if not self.stale or self.unsure:  # unsure: it may be the old line that Redis knows as the call's
            return
        loop, worker = self.stale[number % len(self.stale)]
        with suppress(FencedError, RoundError, StoreError):
            answered = await loop.handle(said("more", "late words"), round_id=loop.state.round_id + 1)
            # A worker that is cut off answers from memory, and learns when it is back that it has lost the call.
            assert worker.store.away or answered.repeated
            if answered.repeated and not worker.store.away:
                assert answered.actions == self.model.answers[answered.round_id]

    # The operator's system.

    async def perform(self, done: Step) -> bool:
        """Do what a step says; False: the worker died of it, or lost the call."""
        asked = next((action for action in done.actions if isinstance(action, CallWebhook)), None)
        if asked is None:
            return True
        loop, worker = self.loop, self.workers[self.at]
        if loop is None or asked.act in self.model.tickets and done.repeated:
            return True
        if worker.store.away:
            await worker.back()
        try:
            await worker.store.settle(self.call_id)
        except FencedError:
            self.lose_the_call()
            return False
        self.model.lasting = max(self.model.said, default=0)
        if self.die_at_act == "before":
            return await self._die_here()
        sent = self.model.acts.setdefault(asked.act, asked.send)
        assert sent == asked.send, "one number, two acts"
        if self.die_at_act == "after":
            return await self._die_here()
        ticket = WebhookAnswered(webhook="note", act=asked.act, answer=(("id", f"t{asked.act}"),))
        self.model.tickets[asked.act] = ticket
        while True:
            try:
                await loop.handle(ticket)
                return True
            except StoreError:
                await worker.back()

    async def _die_here(self) -> bool:
        self.die_at_act = ""
        await self.die(self.at)
        return False

    # What must hold.

    async def check(self) -> None:
        expected = self.model.fold(self.bot)
        store = self.workers[0].line
        loop = DialogueLoop(self.bot, store, self.call_id)
        await loop.open(exclusive=False)
        assert compared(loop.state) == compared(expected)
        assert sorted(self.model.acts) == list(range(1, expected.acts + 1))
        for number, answer in self.model.answers.items():
            again = await loop.handle(self.model.said[number], round_id=number)
            assert again.repeated and again.actions == answer
        for old, _ in self.stale:
            with pytest.raises((FencedError, RoundError)):
                await old.handle(said("more", "later still"), round_id=expected.round_id + 1)
        assert compared(DialogueState()) != compared(loop.state)


def compared(state: DialogueState) -> Mapping[str, object]:
    """What a call must not lose."""
    return {
        "node": state.node,
        "slots": {name: slot.value for name, slot in state.slots.items()},
        "round_id": state.round_id,
        "turns": state.turns,
        "acts": state.acts,
        "history": [(turn.round_id, turn.said, turn.reply) for turn in state.history],
    }


@pytest.fixture(scope="module")
def bot(tmp_path_factory: pytest.TempPathFactory) -> Bot:
    folder: Path = tmp_path_factory.mktemp("counter")
    (folder / "bot.yaml").write_text(BOT)
    (folder / "flow.yaml").write_text(FLOW)
    return load_bot(str(folder))


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey() as running:
        yield running


@pytest.fixture(scope="module")
def workers(server: Valkey, runner: asyncio.Runner) -> Iterator[list[Worker]]:
    async def close(made: list[Worker]) -> None:
        for worker in made:
            await worker.line.close()

    made = [Worker(server.url), Worker(server.url)]
    yield made
    runner.run(close(made))


def event_kinds() -> st.SearchStrategy[Op]:
    """Mostly words; a restart of Redis takes a tenth of a second, so it is rare."""
    common = [Op.SAY] * 4 + [op for op in Op if op not in (Op.SAY, Op.RESTART)] * 2
    return st.sampled_from([*common, Op.RESTART])


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="INTERLEAVINGS" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ops=st.lists(st.tuples(event_kinds(), st.integers(0, 7)), max_size=24))
def test_no_act_twice_no_slot_lost_no_answer_changed(
    bot: Bot, workers: list[Worker], server: Valkey, runner: asyncio.Runner, ops: list[tuple[Op, int]]
) -> None:
    async def play() -> None:
        for worker in workers:
            await worker.start()
        try:
            await Call(bot, workers, server).play(ops)
        finally:
            for worker in workers:
                await worker.end()

    runner.run(play())
