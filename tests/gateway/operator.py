"""The operator's system, for tests: an HTTP server in a thread that answers as it is told and keeps what came."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

__all__ = ["Answer", "Operator", "Posted", "operator"]

Answer: TypeAlias = tuple[int, bytes]


@dataclass(frozen=True)
class Posted:
    """One request."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Operator:
    """`answer` is called with each request, in its thread; a negative status drops the connection."""

    answer: Callable[[Posted], Answer] = lambda posted: (200, b"{}")
    posted: list[Posted] = field(default_factory=list)
    host: str = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}/crm"

    def hear(self, posted: Posted) -> Answer:
        self.posted.append(posted)
        return self.answer(posted)


@contextmanager
def operator() -> Iterator[Operator]:
    """A server on loopback; its requests are over when the context is."""
    made = Operator()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            status, body = made.hear(Posted(self.path, dict(self.headers), raw))
            if status < 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if 300 <= status < 400:
                self.send_header("Location", made.url)
            self.end_headers()
            for at in range(0, len(body), 65536):
                self.wfile.write(body[at : at + 65536])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    server.handle_error = lambda *args: None  # type: ignore[method-assign]  # peers that go away are part of the tests
    made.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def slow(seconds: float) -> Callable[[Posted], Answer]:
    """Answers late."""

    def answer(posted: Posted) -> Answer:
        time.sleep(seconds)
        return 200, b"{}"

    return answer
