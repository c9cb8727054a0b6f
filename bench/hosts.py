"""What becomes of calls when a host goes, its network, or its clock?

    python -m bench.hosts calls [--calls 20]           a host of calls is cut off for good
    python -m bench.hosts redis [--calls 20]           the Redis primary is lost; a replica takes its address
    python -m bench.hosts partition [--seconds 8]      a host of calls is cut off from callers and Redis, and comes back
    python -m bench.hosts clock [--steps 40]           every host's clock is set: an hour ahead, two back, and on again

Hosts are network namespaces of this machine (bench/network_hosts.py; root, or unprivileged user namespaces) with clocks
that may be set (bench/set_clocks.py): two of calls, one of models, a Redis and its replica. Gateways and models meet
through the Redis alone. Callers in this process press their way through a bot of `--steps` questions. A caller whose
line is dead for two seconds, or lost, calls the other host with the same call id and answers what it is asked.

    went_on          calls that came to their end; the others are `lost`
    greeted_again    calls that were asked again from the start; must be 0
    went_back        calls that were asked a question before the one that they had heard: answers were lost
    silent_s         from the cut to the next question, over all calls: median and longest
    reply_s          from a key to the next question, behind the cut: the longest
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import redis.asyncio as redis
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from bench.network_hosts import Host, Network, NoNamespacesError, isolated
from bench.outages import AGAIN_S, BOT, CALL_S, Caller, all_have_answered, key_of
from bench.set_clocks import HOUR_S, NoFaketimeError, SetClock
from gateway.machine import describe_machine
from gateway.processes.embedded_redis import find_server_binary

__all__ = ["Figures", "run"]

REDIS: Final = "10.77.0.1"
STRIKE_AFTER: Final = 3
READY_S: Final = 120.0
LINE_DEAD_S: Final = 2.0
CONNECT_S: Final = 2.0


@dataclass
class TravellingCaller(Caller):
    """Calls another host where the one before does not answer."""

    hosts: tuple[str, ...] = ()
    went_back: int = 0
    _tries: int = 0

    async def talk(self) -> None:
        """Until the bot has said goodbye."""
        async with asyncio.timeout(CALL_S):
            while not self.over:
                url = self.hosts[self._tries % len(self.hosts)]
                self._tries += 1
                with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                    async with connect(
                        url,
                        compression=None,
                        proxy=None,
                        open_timeout=CONNECT_S,
                        close_timeout=1,
                        ping_interval=LINE_DEAD_S / 2,
                        ping_timeout=LINE_DEAD_S / 2,
                    ) as line:
                        await self._one_line(line)
                await asyncio.sleep(AGAIN_S)

    async def _hear(self, event: dict[str, Any], line: Any) -> None:
        if event["type"] == "prompt" and event["node"].startswith("q") and event["text"].endswith("?"):
            self.went_back += int(event["node"][1:]) < self.asked
        await super()._hear(event, line)


@dataclass
class Figures:
    """What became of the calls."""

    calls: int
    went_on: int = 0
    lost: list[str] = field(default_factory=list)
    greeted_again: int = 0
    went_back: int = 0
    reconnects: int = 0
    silent_s: list[float] = field(default_factory=list)
    reply_s: list[float] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether no call was lost or begun anew."""
        return not self.lost and not self.greeted_again

    def document(self) -> dict[str, object]:
        """For people and programs."""
        silent = np.array(self.silent_s or [0.0])
        return {
            "calls": self.calls,
            "went_on": self.went_on,
            "lost": len(self.lost),
            "reconnects": self.reconnects,
            "greeted_again": self.greeted_again,
            "went_back": self.went_back,
            "silent_s_median": round(float(np.median(silent)), 1),
            "silent_s_longest": round(float(silent.max()), 1),
            "reply_s_longest": round(max(self.reply_s, default=0.0), 2),
        }


def flow(steps: int) -> str:
    """Questions `q0` to `qN`; each is answered by a key of its own."""
    nodes = [f'  q{n}: {{ask: "Number {n}?", keys: {{"{key_of(n)}": q{n + 1}}}}}' for n in range(steps)]
    nodes.append(f'  q{steps}: {{ask: "Done?", keys: {{"{key_of(steps)}": bye}}}}')
    nodes.append("  bye: {say: Goodbye., hang_up: done}")
    return "start: q0\nno_input: {after_ms: never}\nnodes:\n" + "\n".join(nodes) + "\n"


async def run(what: str, *, calls: int, seconds: float, steps: int, log: bool) -> Figures:
    """One cut under `calls` calls; in an isolated process."""
    with tempfile.TemporaryDirectory(prefix="vg-") as name, Network() as network:
        folder = Path(name)
        (folder / "bot.yaml").write_text(BOT)
        (folder / "flow.yaml").write_text(flow(steps))
        primary, replica = network.host("redis", REDIS), network.host("replica", "10.77.0.2")
        models = network.host("models", "10.77.0.21")
        first, second = network.host("calls1", "10.77.0.11"), network.host("calls2", "10.77.0.12")
        hosts = (primary, replica, models, first, second)
        clocks = {host.name: SetClock(folder / f"{host.name}.clock") for host in hosts if what == "clock"}
        for host, more in ((primary, ()), (replica, ("--replicaof", REDIS, "6379"))):
            command = (str(find_server_binary()), *_valkey(folder / host.name), *more)
            host.start(*command, environ=_by(clocks, host))
        await _redis_answers(REDIS)
        for host, workers in ((models, 0), (first, 1), (second, 1)):
            _serve(host, folder, workers=workers, log=log, environ=_by(clocks, host))
        for host in (models, first, second):
            await asyncio.wait_for(asyncio.to_thread(_wait_until_ready, host), READY_S)
        urls = tuple(f"ws://{host.address}:8765/v1/call" for host in (first, second))
        callers = [TravellingCaller("", f"host-{n}", hosts=urls) for n in range(calls)]
        talking = [asyncio.create_task(caller.talk()) for caller in callers]
        await all_have_answered(callers, talking, STRIKE_AFTER)
        struck_at = time.monotonic()
        if what == "clock":
            await _set_clocks(list(clocks.values()), seconds)
        else:
            await _strike(what, network, primary, replica, first, seconds)
        ended = await asyncio.gather(*talking, return_exceptions=True)
        return _figures(callers, ended, struck_at)


async def _strike(what: str, network: Network, primary: Host, replica: Host, first: Host, seconds: float) -> None:
    if what == "redis":
        primary.cut_off()
        await asyncio.sleep(1.0)  # what a watch over it takes to be sure
        client = redis.Redis(host=replica.address)
        await client.replicaof("NO", "ONE")
        await client.aclose()
        replica.take_address(REDIS)
        network.forget(REDIS)
    else:
        first.cut_off()
        if what == "partition":
            await asyncio.sleep(seconds)
            first.join_again()


async def _set_clocks(clocks: list[SetClock], seconds: float) -> None:
    """An hour ahead, two back, two ahead again; one host after the other, so that they differ in between."""
    for ahead_s in (HOUR_S, -HOUR_S, HOUR_S):
        for clock in clocks:
            clock.set(ahead_s)
            await asyncio.sleep(seconds / 3 / len(clocks))


def _by(clocks: dict[str, SetClock], host: Host) -> dict[str, str]:
    return clocks[host.name].environ if host.name in clocks else {}


def _figures(callers: list[TravellingCaller], ended: list[None | BaseException], struck_at: float) -> Figures:
    figures = Figures(len(callers))
    for caller, how in zip(callers, ended, strict=True):
        if how is None and caller.over == "done":
            figures.went_on += 1
        else:
            figures.lost.append(f"{caller.call_id}: {caller.over or type(how).__name__} at question {caller.asked}")
        figures.greeted_again += caller.greeted_again
        figures.went_back += caller.went_back > 0
        figures.reconnects += caller.lines - 1
        figures.silent_s += [at - struck_at for at, _ in caller.replies if at >= struck_at][:1]
        figures.reply_s += [waited for at, waited in caller.replies if at >= struck_at]
    return figures


def _valkey(folder: Path) -> list[str]:
    folder.mkdir()
    return ["--dir", str(folder), "--protected-mode", "no", "--save", "", "--appendonly", "no", "--logfile", "log"]


def _serve(host: Host, bot: Path, *, workers: int, log: bool, environ: dict[str, str]) -> None:
    environ = {
        **environ,
        "VOICEGATE_HOST": "0.0.0.0",
        "VOICEGATE_AUTH_TRUSTED_NETWORKS": "10.77.0.0/24",
        "VOICEGATE_WORKERS": str(workers),
        "VOICEGATE_INFERENCE_SEAM": "streams",
        "VOICEGATE_INFERENCE_WORKERS": "0" if workers else "1",
        "VOICEGATE_BOT": str(bot),
        "VOICEGATE_BOTS": ",",
        "VOICEGATE_LOG_LEVEL": "info" if log else "error",
        "REDIS_URL": f"redis://{REDIS}:6379/0",
        "TMPDIR": str(bot),
    }
    host.start(sys.executable, "-c", "from gateway.cli import main; main()", "serve", environ=environ, quiet=not log)


async def _redis_answers(address: str) -> None:
    client = redis.Redis(host=address, socket_connect_timeout=1)
    async with asyncio.timeout(READY_S):
        while True:
            with contextlib.suppress(redis.RedisError, OSError):
                await client.ping()
                break
            await asyncio.sleep(0.1)
    await client.aclose()


def _wait_until_ready(host: Host) -> None:
    while True:
        try:
            with urllib.request.urlopen(f"http://{host.address}:8080/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)


def main() -> None:
    """Print the figures; exit code 1 where a call was lost or begun anew, 2 where hosts or clocks cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("calls", "redis", "partition", "clock"), help="what goes wrong")
    parser.add_argument("--calls", type=int, default=20, help="default %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="of a partition, or of setting clocks (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=12, help="questions of a call (default %(default)s)")
    parser.add_argument("--log", action="store_true", help="show the gateways' logs")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    try:
        outside = isolated([sys.executable, "-m", "bench.hosts", *sys.argv[1:]])
        if outside is not None:
            sys.exit(outside)
        figures = asyncio.run(run(args.what, calls=args.calls, seconds=args.seconds, steps=args.steps, log=args.log))
    except (NoNamespacesError, NoFaketimeError, subprocess.SubprocessError) as exc:
        print(f"cannot run here: {exc}", file=sys.stderr)
        sys.exit(2)
    for name, value in figures.document().items():
        print(f"{name:<20}{value!s:>10}")
    for line in figures.lost:
        print(line, file=sys.stderr)
    if args.json:
        args.json.write_text(
            json.dumps({"machine": describe_machine(), "what": args.what, **figures.document()}, indent=2)
        )
    sys.exit(0 if figures.kept else 1)


if __name__ == "__main__":
    main()
