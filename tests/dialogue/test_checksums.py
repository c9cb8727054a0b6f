"""Check digits: real numbers pass, and a slip of one digit never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialogue.checksums import Checksum, has_checksum

pytestmark = pytest.mark.unit

# ISO/IEC 7812-1's example; a test card; the figures of ISO 7064's and of an account number's MOD 97-10.
GOOD = {
    Checksum.LUHN: ["79927398713", "4111111111111111", "00"],
    Checksum.MOD97: ["79444", "3214282912345698765432161182"],
}

digits = st.text(alphabet="0123456789", min_size=1, max_size=30)


@pytest.mark.parametrize("kind", Checksum)
def test_numbers_in_use_pass(kind: Checksum) -> None:
    assert all(has_checksum(kind, number) for number in GOOD[kind])


@pytest.mark.parametrize("kind", Checksum)
@pytest.mark.parametrize("number", ["", "7", "12"])
def test_too_few_digits_do_not(kind: Checksum, number: str) -> None:
    assert not has_checksum(kind, number)


@given(digits, st.integers(0, 40), st.integers(1, 9))
def test_exactly_one_check_digit_is_right_and_a_slip_is_found(number: str, place: int, by: int) -> None:
    good = [number + check for check in "0123456789" if has_checksum(Checksum.LUHN, number + check)]
    assert len(good) == 1
    assert not has_checksum(Checksum.LUHN, slipped(good[0], place, by))


@given(digits, st.integers(0, 40), st.integers(1, 9))
def test_two_check_digits_find_a_slip_and_two_figures_exchanged(number: str, place: int, by: int) -> None:
    good = f"{number}{98 - int(number) * 100 % 97:02d}"
    assert has_checksum(Checksum.MOD97, good)
    assert not has_checksum(Checksum.MOD97, slipped(good, place, by))
    at = place % (len(good) - 1)
    swapped = good[:at] + good[at + 1] + good[at] + good[at + 2 :]
    assert swapped == good or not has_checksum(Checksum.MOD97, swapped)


def slipped(number: str, place: int, by: int) -> str:
    """The number with one digit another."""
    at = place % len(number)
    return number[:at] + str((int(number[at]) + by) % 10) + number[at + 1 :]
