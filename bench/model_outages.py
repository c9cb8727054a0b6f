"""What does a caller notice when an inference worker is killed, or hangs, while he talks?

    python -m bench.model_outages [--how kill|hang] [--calls 6] [--seconds 40] [--blows 1]
    python -m bench.model_outages --seam streams --workers 2 --blows 4 --seconds 15

A whole gateway with real models, and recorded callers (gateway/demo) who talk to the bot `load` without an end. After
some seconds one inference worker gets SIGKILL, or SIGSTOP: then it must be found out. So long they talk on; then comes
the next blow, if there is one: who had no job in hand leaves nobody waiting. With the seam `socket` there is one
worker, and its successor has to load the models; with `streams` and two workers the other does the dead one's jobs.

    replies        answers to what callers said: before the first blow and after it, with the longest wait for one
    late_until_s   the longest from a blow to an answer that came later than the budget's 200 ms: then all was well
    unanswered     times that a caller got no answer within 12 s, and spoke again
    broken         calls that ended; must be none
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from gateway import logs
from gateway.machine import describe_machine
from gateway.processes.supervisor import Gateway
from gateway.replay.load import Load, read_callers
from gateway.replay.record import CallRecord
from gateway.replay.report import quantiles
from gateway.replay.run import LinesRun
from gateway.settings import load

__all__ = ["Found", "judge", "run"]

BUDGET_MS: Final = 200.0
_DEMO: Final = Path(__file__).parent.parent / "gateway" / "demo"
_RAMP_S: Final = 2.0
_AGAIN: Final = 100
"""Times that a caller says all of it."""
_UNANSWERED: Final = "no prompt within"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What callers noticed. Replies are `endpoint_to_reply_ms`."""

    calls: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    replies_before: int
    replies_after: int
    late_until_s: float
    unanswered: int
    broken: Mapping[str, int]

    @property
    def kept(self) -> bool:
        """Whether no call ended, and all were answered again."""
        return not self.broken and self.replies_after > 0


def judge(records: Sequence[CallRecord], *, struck_s: Sequence[float], until_s: float) -> Found:
    """What became of calls that should all have lasted to the end.

    Args:
        struck_s: when a worker was struck, in seconds since the first call; ascending.
        until_s: when the callers were made to hang up.
    """
    replies = [point for record in records for point in record.points if point.name == "endpoint_to_reply_ms"]
    early = [point.ms for point in replies if point.at_s < struck_s[0]]
    later = [point for point in replies if struck_s[0] <= point.at_s <= until_s]
    late = [point.at_s - struck_s[bisect_right(struck_s, point.at_s) - 1] for point in later if point.ms > BUDGET_MS]
    faults = [fault for record in records for fault in record.faults]
    ended = (record for record in records if not record.cut)
    return Found(
        calls=len(records),
        before=quantiles(early),
        after=quantiles(point.ms for point in later),
        replies_before=len(early),
        replies_after=len(later),
        late_until_s=round(max(late, default=0.0), 1),
        unanswered=sum(fault.startswith(_UNANSWERED) for fault in faults),
        broken=dict(Counter("; ".join(record.faults) or record.ended_by for record in ended)),
    )


async def run(
    *, how: str, calls: int, seconds: float, seam: str, workers: int, blows: int = 1, before_s: float = 15.0
) -> Found:
    """One blow or several under `calls` calls; must run on the main thread.

    Args:
        how: "kill" or "hang".
        seconds: how long callers go on talking after each.
        before_s: and how long before, from when all have begun.
    """
    flags = {"port": 0, "control_port": 0, "bot": "load", "bots": (), "log_level": "error", "limits.drain_s": 0.0}
    flags |= {"inference.seam": seam, "inference.workers": workers}
    struck_s = [_RAMP_S + before_s + seconds * blow for blow in range(blows)]
    until_s = struck_s[-1] + seconds
    async with Gateway(load(environ={}, flags=flags)) as gateway:
        await gateway.ready()
        talk = Load(
            url=f"ws://127.0.0.1:{gateway.port}",
            callers=[
                replace(caller, recordings=caller.recordings * _AGAIN)
                for caller in read_callers([_DEMO, _DEMO / "paid"])
            ],
            calls=calls,
            ramp_s=_RAMP_S,
            duration_s=until_s,
        )
        began = time.monotonic()
        talking = asyncio.create_task(LinesRun(talk, lambda tick: None).run())
        for at_s in struck_s:
            await asyncio.sleep(began + at_s - time.monotonic())
            os.kill(_inference_workers()[0], signal.SIGKILL if how == "kill" else signal.SIGSTOP)
        records = (await talking).records
    return judge(records, struck_s=struck_s, until_s=until_s)


def _inference_workers() -> list[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if b"gateway.inference.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def show(found: Found) -> None:
    """The figures for a person."""
    for name, count, figures in (
        ("before", found.replies_before, found.before),
        ("after", found.replies_after, found.after),
    ):
        told = ", ".join(f"{key} {ms:.0f}" for key, ms in figures.items())
        print(f"{name:<8}{count:>4} replies, ms: {told}")
    print(f"late until {found.late_until_s:.1f} s after a blow; {found.unanswered} times no answer within 12 s")
    print(f"{found.calls} calls, {sum(found.broken.values())} broken {dict(found.broken) or ''}")


def main() -> None:
    """Print the figures; exit code 1 where a call ended, or none was answered again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--how", choices=("kill", "hang"), default="kill")
    parser.add_argument("--calls", type=int, default=6, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=40.0, help="of talking after each blow (%(default)g)")
    parser.add_argument("--blows", type=int, default=1, help="workers struck, one after the other (%(default)s)")
    parser.add_argument("--seam", choices=("socket", "streams"), default="socket")
    parser.add_argument("--workers", type=int, default=1, help="inference workers; several only over streams")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    args = parser.parse_args()
    logs.configure("critical", "text", process="model outages")
    found = asyncio.run(
        run(
            how=args.how,
            calls=args.calls,
            seconds=args.seconds,
            seam=args.seam,
            workers=args.workers,
            blows=args.blows,
        )
    )
    show(found)
    if args.json:
        args.json.write_text(json.dumps({"machine": describe_machine(), **asdict(found)}, indent=1))
    sys.exit(0 if found.kept else 1)


if __name__ == "__main__":
    main()
