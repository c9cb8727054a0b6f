"""G.711 against published table hashes, its round-trip facts, and the standard library where it has one."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import pytest

from audio import g711

pytestmark = pytest.mark.unit

ALL_VALUES = np.arange(-32768, 32768).astype(np.int16)
ALL_CODES = bytes(range(256))


def sha256(table: np.ndarray) -> str:
    return hashlib.sha256(table.astype("<i2").tobytes()).hexdigest()


def test_tables_are_those_of_the_reference() -> None:
    """The hashes are of the 16-bit tables that CPython 3.11's audioop gives."""
    assert sha256(g711.MULAW_TABLE) == "3dab54339e520bb2c924826e3b72a917a2b612e9fd12fc867500f1d983a75827"
    assert sha256(g711.ALAW_TABLE) == "e04788d110e58ff8c70c93b8480190d973e3b67876b6119abbaec766cc75c174"


def test_ranges_and_landmarks() -> None:
    mulaw, alaw = g711.MULAW_TABLE, g711.ALAW_TABLE
    assert (mulaw.min(), mulaw.max()) == (-32124, 32124)
    assert (mulaw[0x00], mulaw[0x80], mulaw[0x7F], mulaw[0xFF]) == (-32124, 32124, 0, 0)
    assert (alaw.min(), alaw.max()) == (-32256, 32256)
    assert (alaw[0x2A], alaw[0xAA], alaw[0xD5], alaw[0x55]) == (-32256, 32256, 8, -8)


def test_every_code_but_one_survives_a_round_trip() -> None:
    """μ-law has two zeros; the encoder uses 0xFF."""
    again = g711.mulaw_encode(g711.mulaw_decode(ALL_CODES))
    assert [code for code in range(256) if again[code] != code] == [0x7F]
    assert g711.alaw_encode(g711.alaw_decode(ALL_CODES)) == ALL_CODES


def test_silence_codes() -> None:
    zero = np.zeros(1, np.int16)
    assert g711.mulaw_encode(zero) == bytes([g711.MULAW_SILENCE])
    assert g711.alaw_encode(zero) == bytes([g711.ALAW_SILENCE])


def test_coding_error_stays_within_half_a_step() -> None:
    """Steps grow with level: at most 1/16 of the value, and 16 at the bottom."""
    for encode, decode in ((g711.mulaw_encode, g711.mulaw_decode), (g711.alaw_encode, g711.alaw_decode)):
        inside = ALL_VALUES[np.abs(ALL_VALUES.astype(int)) < 32000]
        error = np.abs(decode(encode(inside)).astype(int) - inside)
        assert np.all(error <= np.abs(inside.astype(int)) / 16 + 16)


def test_same_as_the_standard_library_over_all_values() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop", reason="audioop left Python in 3.13")
    data = ALL_VALUES.astype("<i2").tobytes()
    assert g711.mulaw_encode(ALL_VALUES) == audioop.lin2ulaw(data, 2)
    assert g711.alaw_encode(ALL_VALUES) == audioop.lin2alaw(data, 2)
    assert g711.mulaw_decode(ALL_CODES).tobytes() == audioop.ulaw2lin(ALL_CODES, 2)
    assert g711.alaw_decode(ALL_CODES).tobytes() == audioop.alaw2lin(ALL_CODES, 2)
