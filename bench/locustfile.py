"""How many texts a second does the HTTP API understand, and how fast? Users who talk in rounds, as a Locust file.

    python -m venv /tmp/locust && /tmp/locust/bin/pip install locust       # or: pip install -e '.[bench]'
    voicegate serve &
    /tmp/locust/bin/locust -f bench/locustfile.py --headless -u 100 -r 100 -t 60s --host http://127.0.0.1:8080 \
        --route chat --speed 10 --min-score 0.5

Each user holds one conversation after another: says a text, waits for the answer, listens to the reply and says the
next, at `--speed` times the pace of real talk; 0 is without a pause. An answer fails whose score is below
`--min-score`. One request in fifty is sent twice, and fails where the second answer is not the first. Texts are the
bill reminder's examples unless `--texts FILE` names others (bench/text_callers.py has the form). Locust's own options
say how many users, for how long, and where the figures go: `--csv`, `--html`, `--json`. A token is read from
VOICEGATE_TOKEN. The whole machine is one identity to the gateway: mind `api.requests_per_s`.
"""

from __future__ import annotations

import os
import random
import sys
import time
import uuid
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from bench.text_callers import TAIL_S, ScriptError, conversations, fault_of, talking_s

EXAMPLES = Path(__file__).parent.parent / "dialogue" / "bots" / "bill-reminder" / "examples.jsonl"
RETRY_SHARE = 0.02


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Our options beside Locust's."""
    parser.add_argument("--route", choices=["intent", "chat"], default="intent", help="Which request to send.")
    parser.add_argument("--texts", type=Path, default=EXAMPLES, help="JSON Lines of texts or conversations.")
    parser.add_argument("--rounds", type=int, default=6, help="Texts to a conversation, where the file has none.")
    parser.add_argument("--speed", type=float, default=10.0, help="Times the pace of real talk; 0: no pause.")
    parser.add_argument("--min-score", type=float, default=0.5, help="An answer below it fails.")
    parser.add_argument("--bot", default=None, help="Name of a loaded bot; the gateway's first unless given.")
    parser.add_argument("--seed", type=int, default=0, help="Of the shuffling.")


@events.init.add_listener
def read_texts(environment: Environment, **_: Any) -> None:
    """Once per process, so that a fault in the file ends the run before it begins."""
    options = environment.parsed_options
    try:
        Talker.scripts = cycle(conversations(options.texts, rounds=options.rounds, seed=options.seed))
    except (OSError, ScriptError) as exc:
        sys.exit(f"--texts: {exc}")


class Talker(FastHttpUser):
    """One user; `scripts` is shared by all."""

    wait_time = constant(0)  # the pauses are those of talk, within the task
    scripts: Iterator[list[str]]

    def on_start(self) -> None:
        """A token as `voicegate call` takes it."""
        options = self.environment.parsed_options
        self.options = options
        self.common = {"bot": options.bot} if options.bot else {}
        token = os.environ.get("VOICEGATE_TOKEN")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    @task
    def talk(self) -> None:
        """One conversation."""
        name = f"load-{uuid.uuid4().hex}"
        if self.options.route == "chat":
            greeting = self._post({"uid": name, "seq": 0, "query": ""}, min_score=0.0)
            self._listen(greeting)
        for number, text in enumerate(next(self.scripts), 1):
            self._pause(talking_s(text) + TAIL_S)
            if self.options.route == "intent":
                answer = self._post({"call_id": name, "round_id": number, "text": text})
            else:
                answer = self._post({"uid": name, "seq": number, "query": text})
                self._listen(answer)
            if answer.get("state", {}).get("ended"):
                return

    def _post(self, body: dict[str, Any], *, min_score: float | None = None) -> dict[str, Any]:
        """One request, and now and then its retry; {} where there was no answer."""
        bound = self.options.min_score if min_score is None else min_score
        answer = self._once(body, bound)
        if answer and random.random() < RETRY_SHARE:
            self._once(body, bound, expected=answer)
        return answer

    def _once(self, body: dict[str, Any], min_score: float, expected: dict[str, Any] | None = None) -> dict[str, Any]:
        path = f"/v1/{self.options.route}"
        name = path if expected is None else f"{path} again"
        with self.client.post(
            path, json=body | self.common, headers=self.headers, name=name, catch_response=True
        ) as response:
            try:
                answer: dict[str, Any] = response.json()
            except (ValueError, TypeError, AttributeError):
                response.failure(f"no JSON, status {response.status_code}")
                return {}
            if response.status_code != 200:
                response.failure(f"{response.status_code} {answer.get('code')}")
                return {}
            if fault := fault_of(answer, asked=body, min_score=min_score):
                response.failure(fault)
            elif expected is not None and answer != expected:
                response.failure("another answer to the same request")
            return answer

    def _listen(self, answer: dict[str, Any]) -> None:
        self._pause(talking_s(answer.get("reply", "")))

    def _pause(self, seconds: float) -> None:
        if self.options.speed:
            time.sleep(seconds / self.options.speed)  # gevent's, which Locust has put in its place
