"""A streamed answer of a chat model, read as it comes: bytes in, whole sentences out. Pure.

    bytes --EventReader--> data of server-sent events --delta_of--> text --SentenceCutter--> sentences

The answer goes to a telephone: markup is left out, a sentence is given when it is whole, and there are bounds on
everything that a peer could send without end.

Source: WHATWG HTML, "Server-sent events" (fields other than `data` mean nothing here); OpenAI's API reference, "The
chat completion chunk object".
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["AnswerError", "Delta", "EventReader", "SentenceCutter", "delta_of"]

MAX_EVENT_CHARS: Final = 64 * 1024
MAX_ANSWER_BYTES: Final = 512 * 1024

_DONE: Final = "[DONE]"
_MAX_SENTENCE_CHARS: Final = 4000
_END = re.compile(r"(?:[.!?…]+[\"')\]]*(?=\s)|[。！？]+[”’）]*)")
_MARKUP = re.compile(r"[*_`#<>|\[\]{}\\~^]")


class AnswerError(Exception):
    """No answer that could be read; the message says why and holds nothing of what was sent or received."""


@dataclass(frozen=True, slots=True)
class Delta:
    """The text that one event adds. `complete` is None while the answer goes on, and then whether the model had said
    all that it wanted to."""

    text: str = ""
    complete: bool | None = None


class EventReader:
    """Server-sent events of one stream."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._line = ""
        self._after_cr = False
        self._data: list[str] = []
        self._bytes = 0

    def push(self, received: bytes) -> list[str]:
        """The data of the events that are complete now.

        Raises:
            AnswerError: no UTF-8, or an event or a stream beyond all measure.
        """
        self._bytes += len(received)
        try:
            text = self._decoder.decode(received)
        except UnicodeDecodeError:
            raise AnswerError("the stream is no UTF-8") from None
        if not text:
            return []
        if self._after_cr:  # a line feed here is the second half of a line end
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        *lines, self._line = re.split(r"\r\n|\n|\r", self._line + text)
        events = []
        for line in lines:
            if line:
                name, _, value = line.partition(":")
                if name == "data":
                    self._data.append(value.removeprefix(" "))
            else:
                if event := "\n".join(self._data):
                    events.append(event)
                self._data.clear()
        if self._bytes > MAX_ANSWER_BYTES or len(self._line) + sum(map(len, self._data)) > MAX_EVENT_CHARS:
            raise AnswerError("the stream is too long")
        return events


def delta_of(data: str) -> Delta:
    """What one event says. Tool calls and all else that is no text say nothing.

    Raises:
        AnswerError: not the JSON of a chat completion's chunk, or an error in its place.
    """
    if data.strip() == _DONE:
        return Delta(complete=True)
    try:
        body = json.loads(data)
        choices = body["choices"]
        if not choices:  # the chunk that counts tokens
            return Delta()
        text, reason = choices[0]["delta"].get("content"), choices[0].get("finish_reason")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise AnswerError("an event is no chunk of a chat completion") from None
    if not isinstance(text, str | None) or not isinstance(reason, str | None):
        raise AnswerError("an event is no chunk of a chat completion")
    return Delta(text or "", None if reason is None else reason == "stop")


class SentenceCutter:
    """Cuts text into sentences as it comes, no more of them than `max_chars` hold."""

    def __init__(self, max_chars: int) -> None:
        self.full = False
        """No more is wanted: what follows would be too long."""
        self._left = max_chars
        self._text = ""

    def push(self, text: str) -> list[str]:
        """The sentences that are whole now. A full stop ends one where a space follows: "84.50" is one word."""
        self._text += _MARKUP.sub("", text)
        sentences: list[str] = []
        while not self.full and (end := _END.search(self._text)):
            sentences += self._taken(self._text[: end.end()])
            self._text = self._text[end.end() :]
        self.full = self.full or len(self._text) > _MAX_SENTENCE_CHARS
        return sentences

    def finish(self) -> list[str]:
        """What is left, where the model has said all it wanted to."""
        return [] if self.full else self._taken(self._text)

    def _taken(self, written: str) -> list[str]:
        spoken = " ".join(written.split())
        spoken = "".join(char for char in spoken if char.isprintable())
        if not any(char.isalnum() for char in spoken):
            return []
        if len(spoken) > self._left:
            self.full = True
            return []
        self._left -= len(spoken)
        return [spoken]
