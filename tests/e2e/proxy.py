"""A SIP proxy that stays in the middle of calls: Kamailio, as a carrier or a session border controller has one.

Everything of a call goes through it, not the INVITE alone: it asks for that with Record-Route, by two addresses, as
proxies with two sides do (RFC 5658), and answers nothing by itself.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.baresip import free_port

__all__ = ["ABSENT", "Proxy", "is_installed", "proxy"]

ABSENT = "Kamailio is not installed (Debian: apt-get install kamailio; it starts a service, so `make e2e` does not)"

CONFIG = """
debug=2
log_stderror=yes
fork=no
children=1
listen=udp:127.0.0.1:{outside}
listen=udp:127.0.0.1:{inside}
mhomed=0
auto_aliases=no
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "xlog.so"
modparam("rr", "enable_double_rr", 1)

request_route {{
    xlog("L_ERR", "passed $rm\\n");
    if (!mf_process_maxfwd_header("10")) {{
        sl_send_reply("483", "Too Many Hops");
        exit;
    }}
    if (is_method("CANCEL")) {{
        if (t_check_trans()) t_relay();
        exit;
    }}
    if (has_totag()) {{
        if (!loose_route()) {{
            xlog("L_ERR", "astray $rm\\n");
            if (!is_method("ACK")) sl_send_reply("404", "Not of any call");
            exit;
        }}
        t_relay();
        exit;
    }}
    record_route();
    $du = "sip:{next_hop}";
    if (dst_port == {outside}) $fs = "udp:127.0.0.1:{inside}";
    t_relay();
}}
"""


def is_installed() -> bool:
    """Whether there is a Kamailio to run."""
    return shutil.which("kamailio") is not None


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy."""

    uri: str
    """To dial in place of what is behind it."""
    _log: Path

    def passed(self, method: str) -> int:
        """How many requests of this method came its way, repetitions too."""
        return self._log.read_text().count(f"passed {method}\n")

    def has_lost(self) -> bool:
        """Whether a request within a call came without the way that it was told to go."""
        return "astray" in self._log.read_text()


@contextmanager
def proxy(uri: str, folder: Path) -> Iterator[Proxy]:
    """A proxy to whoever answers at `uri` ("sip:bot@127.0.0.1:5060")."""
    outside, inside = free_port(), free_port()
    config, log_file = folder / "kamailio.cfg", folder / "kamailio.log"
    config.write_text(CONFIG.format(outside=outside, inside=inside, next_hop=uri.rpartition("@")[2]))
    with log_file.open("w") as log:
        process = subprocess.Popen(
            ["kamailio", "-f", str(config), "-DD", "-E", "-m", "16", "-Y", str(folder), "-w", str(folder)],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 20
        while not _answers(outside):
            assert process.poll() is None and time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.05)
        yield Proxy(f"sip:bot@127.0.0.1:{outside}", log_file)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    """Whether an OPTIONS is answered, which who stands behind the proxy does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind(("127.0.0.1", 0))
        asking.settimeout(0.5)
        here = f"127.0.0.1:{asking.getsockname()[1]}"
        lines = [
            f"OPTIONS sip:bot@127.0.0.1:{port} SIP/2.0",
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{time.monotonic_ns()};rport",
            f"From: <sip:test@{here}>;tag=1",
            f"To: <sip:bot@127.0.0.1:{port}>",
            f"Call-ID: {time.monotonic_ns()}@{here}",
            "CSeq: 1 OPTIONS",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        try:
            asking.sendto("\r\n".join([*lines, "", ""]).encode(), ("127.0.0.1", port))
            return b" 200 " in asking.recv(65536)
        except (TimeoutError, ConnectionError):
            return False
