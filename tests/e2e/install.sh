#!/bin/sh
# What tests/e2e calls with: SIPp and baresip. Where they cannot be installed, the tests are skipped and say so.
set -u
command -v sipp >/dev/null && command -v baresip >/dev/null && exit 0
if ! command -v apt-get >/dev/null; then
    echo "e2e: no apt-get here; install SIPp and baresip by hand to run the real SIP calls" >&2
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "e2e: not root; run: sudo apt-get install -y --no-install-recommends sip-tester baresip" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q && apt-get install -q -y --no-install-recommends sip-tester baresip ||
    echo "e2e: SIPp and baresip could not be installed; their tests are skipped" >&2
exit 0
