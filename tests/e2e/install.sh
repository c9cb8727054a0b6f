#!/bin/sh
# What tests call with: SIPp, baresip, Chromium. Where they cannot be installed, the tests are skipped and say so.
set -u
command -v sipp >/dev/null && command -v baresip >/dev/null && command -v chromium >/dev/null && exit 0
if ! command -v apt-get >/dev/null; then
    echo "e2e: no apt-get here; install SIPp, baresip and Chromium by hand to run the real calls" >&2
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "e2e: not root; run: sudo apt-get install -y --no-install-recommends sip-tester baresip chromium" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q && apt-get install -q -y --no-install-recommends sip-tester baresip chromium ||
    echo "e2e: SIPp, baresip and Chromium could not all be installed; their tests are skipped" >&2
exit 0
