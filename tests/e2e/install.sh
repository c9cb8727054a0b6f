#!/bin/sh
# What tests need of Debian's: SIPp, baresip and Chromium to call with, faketime to set clocks. Where they cannot be
# installed, the tests are skipped and say so.
set -u
command -v sipp >/dev/null && command -v baresip >/dev/null && command -v chromium >/dev/null &&
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 && exit 0
if ! command -v apt-get >/dev/null; then
    echo "e2e: no apt-get here; install SIPp, baresip, Chromium and libfaketime by hand to run all tests" >&2
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "e2e: not root; run: sudo apt-get install -y --no-install-recommends sip-tester baresip chromium faketime" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q && apt-get install -q -y --no-install-recommends sip-tester baresip chromium faketime ||
    echo "e2e: SIPp, baresip, Chromium and libfaketime could not all be installed; their tests are skipped" >&2
exit 0
