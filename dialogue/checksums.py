"""Check digits of the numbers that callers read out: a slip of one digit is found before anything is done with it."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Checksum", "has_checksum"]


class Checksum(StrEnum):
    """Kinds of check digits; the words of the flow file."""

    LUHN = "luhn"
    """Payment cards and many customer numbers (ISO/IEC 7812-1, annex B): the last digit checks the others."""
    MOD97 = "mod97"
    """Creditor references and account numbers in figures (ISO 7064 MOD 97-10): the last two digits check the others."""


def has_checksum(kind: Checksum, digits: str) -> bool:
    """Whether the check digits at the end of `digits` are right; fewer than are needed never are."""
    if kind is Checksum.MOD97:
        return len(digits) > 2 and int(digits) % 97 == 1
    doubled = [int(d) * 2 for d in reversed(digits[:-1])][::2]
    plain = [int(d) for d in reversed(digits)][::2]
    return len(digits) > 1 and (sum(plain) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0
