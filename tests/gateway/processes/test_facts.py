"""One owner per port, and no child outlives its parent: with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from gateway.processes.facts import PortTakenError, claim_port, free_listener
from tests.ports import free_port

pytestmark = pytest.mark.unit

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")


@LINUX_ONLY
def test_a_claimed_port_is_refused_to_others_until_it_is_let_go() -> None:
    port = free_port()
    with claim_port(port):
        with pytest.raises(PortTakenError, match=f"port {port} already.*--port"):
            claim_port(port)
        claim = f"import sys; from gateway.processes.facts import claim_port; claim_port({port})"
        other = subprocess.run([sys.executable, "-c", claim], capture_output=True, text=True, check=False)
        assert other.returncode == 1 and "PortTakenError" in other.stderr
        claim_port(free_port()).close()
    claim_port(port).close()


@LINUX_ONLY
def test_a_claim_dies_with_its_owner_killed_or_not() -> None:
    port = free_port()
    claim = (
        f"from gateway.processes.facts import claim_port; lock = claim_port({port}); print('held', flush=True); input()"
    )
    owner = subprocess.Popen([sys.executable, "-c", claim], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdin and owner.stdout
    with owner.stdin, owner.stdout:
        assert owner.stdout.readline() == b"held\n"
        with pytest.raises(PortTakenError):
            claim_port(port)
        owner.kill()
        owner.wait(5)
    claim_port(port).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_is_ones_own(host: str) -> None:
    try:
        listener = free_listener(host, 0, option="--control-port")
    except PortTakenError:
        pytest.skip(f"{host} is not there")
    with listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"{port} cannot be used: .*--control-port"):
            free_listener(host, port, option="--control-port")
        with socket.create_connection((host, port), timeout=2):
            pass


def test_an_address_that_is_not_ours_names_the_option() -> None:
    with pytest.raises(PortTakenError, match="192.0.2.1.*--port"):
        free_listener("192.0.2.1", 0, option="--port")


CHILD = "import os, time; from gateway.processes.facts import die_with_parent; die_with_parent({parent}); {then}"
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}.replace("PARENT", str(os.getpid()))], stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode().strip(), flush=True)
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """A zombie, whose parent has yet to look, is dead."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@LINUX_ONLY
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_dies_with_its_parent_however_that_dies(number: signal.Signals) -> None:
    child = CHILD.format(parent="PARENT", then="print('armed', flush=True); time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", PARENT.format(child=child)], stdout=subprocess.PIPE)
    assert parent.stdout
    with parent.stdout:
        pid, armed = parent.stdout.readline().split()
        assert armed == b"armed" and is_alive(int(pid))
        os.kill(parent.pid, number)
        parent.wait(5)
    deadline = time.monotonic() + 5
    while is_alive(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not is_alive(int(pid))


@LINUX_ONLY
def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    child = CHILD.format(parent=1 if os.getpid() != 1 else 2, then="print('went on')")
    run = subprocess.run([sys.executable, "-c", child], capture_output=True, timeout=20, check=False)
    assert (run.returncode, run.stdout) == (1, b"")
