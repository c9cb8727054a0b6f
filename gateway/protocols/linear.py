"""What FreeSWITCH's two streaming modules have in common: linear 16-bit audio whose rate the wire may never say.

What the call is can stand in the URL's query, in the first text (metadata that the deployer wrote, JSON or not, whole
or cut off), or nowhere. The query wins: it is the one of the three that always arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from audio.formats import AudioFormat, UnsupportedFormatError
from gateway.protocols.early_audio import EarlyAudio
from gateway.protocols.fields import call_id_of, metadata_of, number_of, objects_of, text_of, word_of
from gateway.protocols.seam import CallStart, CloseCode, JsonObject, PeerFault, WireEvent

__all__ = [
    "CHUNK_MS",
    "STARTS_WITHIN_MS",
    "TEXT_BEHIND_AUDIO_MS",
    "chunk_ms_of",
    "first_text",
    "read_metadata",
    "start_of",
]

CHUNK_MS: Final = 320
"""Audio of one file or JSON message: under 16 KiB of base64 at 16 kHz (PROTOCOLS.md section 0)."""
STARTS_WITHIN_MS: Final = 2000
"""A call of which nothing comes at all starts then: as long as early audio is kept."""
TEXT_BEHIND_AUDIO_MS: Final = 100
"""The modules flush what they captured while they connected, and the first text right behind it."""
_MAX_CHUNK_MS: Final = 10_000
_MIX_CHANNELS: Final = {"mono": 1, "mixed": 1, "stereo": 2}
_RATE_KEYS: Final = ("sample_rate", "sampleRate", "rate")
_MIX_KEYS: Final = ("mix", "mixType", "mix_type")
_CALL_ID_KEYS: Final = ("call_id", "callSid", "callId", "uuid")
_CALLER_KEYS: Final = ("caller", "from", "callerId")
_OWN_KEYS: Final = frozenset(
    {*_RATE_KEYS, *_MIX_KEYS, *_CALL_ID_KEYS, *_CALLER_KEYS, "bot", "language", "token", "channels", "playback"}
    | {"chunk_ms"}
)
_FIELD: Final = re.compile(r'"([A-Za-z_]{1,40})"\s*:\s*(?:"([^"\\]{0,512})"|(\d{1,9}))')


def read_metadata(text: str) -> tuple[JsonObject, list[JsonObject]]:
    """The call's metadata in the first text, and other messages that stand behind it in the same text.

    Where it was cut off (the modules do at 8 KiB), what plain fields it holds are used; where it is no JSON, it is
    kept under `text`.
    """
    found, rest = objects_of(text)
    if found:
        return found[0], found[1:]
    if rest.startswith("{"):
        return {name: word or number for name, word, number in _FIELD.findall(rest)}, []
    return ({"text": rest} if rest else {}), []


def first_text(
    text: str,
    start: Callable[[JsonObject], CallStart],
    early: EarlyAudio,
    later: Callable[[JsonObject], Iterable[WireEvent]],
    *,
    where: str = "",
) -> Sequence[WireEvent]:
    """The text that begins the call: its start, the audio that came before it, and what else stands in the text.

    Args:
        start: makes the start of the metadata, and lets `early` begin; may raise UnsupportedFormatError.
        later: reads any other message.
        where: told behind a format that cannot be used: " in ...".
    """
    metadata, others = read_metadata(text)
    try:
        started = start(metadata)
    except UnsupportedFormatError as exc:
        return (PeerFault("bad_start", f"{exc.reason}{where}", CloseCode.BAD_START, exc.given),)
    return (started, *early.release(), *(event for other in others for event in later(other)))


def start_of(query: Mapping[str, str], metadata: JsonObject) -> CallStart:
    """The call as query and metadata describe it; 8 kHz mono where they say nothing of it.

    Raises:
        UnsupportedFormatError: a rate or channel count that calls cannot use.
    """
    rate = _first(_RATE_KEYS, query, metadata)
    rate_hz = 8000 if rate is None else _rate_hz(rate)
    mix = _MIX_CHANNELS.get(word_of(_first(_MIX_KEYS, query, metadata)), 1)
    channels = number_of(_first(("channels",), query, metadata), mix)
    return CallStart(
        format=AudioFormat(sample_rate_hz=rate_hz, channels=channels),
        call_id=call_id_of(_first(_CALL_ID_KEYS, query, metadata)),
        bot=text_of(_first(("bot",), query, metadata)),
        language=text_of(_first(("language",), query, metadata)),
        caller=text_of(_first(_CALLER_KEYS, query, metadata)),
        metadata=metadata_of(
            *({key: value for key, value in source.items() if key not in _OWN_KEYS} for source in (metadata, query))
        ),
    )


def chunk_ms_of(*sources: Mapping[str, object]) -> int:
    """Audio of one file, as the first source with a `chunk_ms` asks: 20 ms to 10 s, in steps of 20."""
    asked = number_of(_first(("chunk_ms",), *sources), CHUNK_MS)
    return min(max(asked, 20), _MAX_CHUNK_MS) // 20 * 20


def _first(keys: tuple[str, ...], *sources: Mapping[str, object]) -> object:
    """The first of the keys that has a value, source by source."""
    for source in sources:
        for key in keys:
            if (value := source.get(key)) not in (None, ""):
                return value
    return None


def _rate_hz(value: object) -> int:
    """A rate as the modules write it: 8000, "16000", "8k"."""
    word = word_of(value)
    if word.endswith("k"):
        return number_of(word[:-1], 0) * 1000
    return number_of(word, 0)
