"""Language tags to the few languages that the rules and models here tell apart."""

from __future__ import annotations

__all__ = ["primary_language"]

_WRITTEN_AS = {"cmn": "zh", "yue": "zh", "wuu": "zh", "nan": "zh", "hak": "zh"}
"""Spoken Chinese languages: as text, all are read by the Chinese rules."""


def primary_language(tag: str) -> str:
    """The language of a tag, lower case and without its region: "en-GB" -> "en", "zh-CN", "yue" -> "zh"."""
    primary = tag.replace("_", "-").split("-")[0].strip().lower()
    return _WRITTEN_AS.get(primary, primary)
