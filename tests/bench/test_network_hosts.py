"""Namespaces as hosts: they reach each other, and do not while one is cut off."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.unit, pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")]

# What runs in the network of its own. The server says a word to whoever connects.
SERVER = "import socket; s = socket.create_server(('', 9)); [s.accept()[0].sendall(b'here') for _ in iter(int, 1)]"
INSIDE = f"""
import socket, sys, time
from bench.network_hosts import Network, NoNamespacesError, isolated

def hears(address, within_s):
    try:
        with socket.create_connection((address, 9), timeout=within_s) as line:
            return line.recv(4) == b"here"
    except OSError:
        return False

def until_it_hears(address):
    deadline = time.monotonic() + 20
    while not hears(address, 1):
        assert time.monotonic() < deadline, address
        time.sleep(0.05)

try:
    if (outside := isolated([sys.executable, "-c", sys.argv[1], sys.argv[1]])) is not None:
        sys.exit(outside)
    with Network() as network:
        host, spare = network.host("one", "10.77.0.1"), network.host("two", "10.77.0.2")
        for each in (host, spare):
            each.start(sys.executable, "-S", "-c", {SERVER!r})
            until_it_hears(each.address)
        host.cut_off()
        assert not hears(host.address, 0.3) and hears(spare.address, 5)
        host.join_again()
        until_it_hears(host.address)
        host.cut_off()
        spare.take_address(host.address)
        network.forget(host.address)
        until_it_hears(host.address)
except NoNamespacesError as exc:
    print(exc)
    sys.exit(2)
"""


def test_hosts_reach_each_other_until_one_is_cut_off() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, INSIDE], capture_output=True, text=True, timeout=100, check=False
    )
    if done.returncode == 2:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
