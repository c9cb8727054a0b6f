"""What the HTTP API takes and gives, with the descriptions and examples that its OpenAPI page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from nlu.meaning import Meaning, Slot

__all__ = ["ChatAnswer", "ChatRequest", "ChatState", "FoundSlot", "IntentAnswer", "IntentRequest", "found_slots"]

_ID_PATTERN: Final = r"^[A-Za-z0-9._:@+\-]+$"  # what a call's own id may hold (gateway/protocols/native.py)
_MAX_ROUND: Final = 2**53 - 2  # one more is still exact in Lua and JavaScript
_MAX_METADATA: Final = 64

Identifier = Annotated[str, Field(min_length=1, max_length=128, pattern=_ID_PATTERN)]
BotName = Annotated[
    str | None,
    Field(max_length=128, description="Name of a loaded bot. Without it: the gateway's first.", examples=["load"]),
]
Language = Annotated[
    str | None,
    Field(
        max_length=35,
        description="A language tag. Where the bot speaks another one, its twin in this language answers.",
        examples=["en"],
    ),
]


def _whole_characters(text: str) -> str:
    """JSON can hold half of a surrogate pair, which is no text: neither models nor store would take it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("half_character", "Holds half a surrogate pair; send whole characters") from None
    return text


Text = Annotated[str, AfterValidator(_whole_characters)]
MetadataText = Annotated[Text, Field(max_length=256)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FoundSlot(BaseModel):
    """One value named in a text."""

    name: str
    value: Annotated[str, Field(description="As it stands in the text.")]
    start: Annotated[int, Field(description="Offset of its first character.")]
    end: Annotated[int, Field(description="Offset behind its last character.")]


def found_slots(slots: Sequence[Slot]) -> list[FoundSlot]:
    """A meaning's slots as they are told."""
    return [FoundSlot(name=slot.name, value=slot.text, start=slot.start, end=slot.end) for slot in slots]


class IntentRequest(_Request):
    """One text to understand."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"call_id": "7f3a", "round_id": 3, "text": "i can pay on friday"}]}
    )

    call_id: Annotated[Identifier, Field(description="The call; letters, digits and `. _ : @ + -`.")]
    round_id: Annotated[int, Field(ge=0, le=_MAX_ROUND, description="The caller's turn. A retry has the same number.")]
    text: Annotated[Text, Field(description="What the caller said. May be empty: then the intent is `oos`.")]
    bot: BotName = None
    language: Language = None


class IntentAnswer(BaseModel):
    """What the text means. The same call and round give the same answer as long as it is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "call_id": "7f3a",
                    "round_id": 3,
                    "intent": "promise_to_pay",
                    "score": 0.9987,
                    "slots": [{"name": "date", "value": "friday", "start": 13, "end": 19}],
                }
            ]
        }
    )

    call_id: str
    round_id: int
    intent: Annotated[str, Field(description="`oos` where it is none of the bot's.")]
    score: Annotated[float, Field(ge=0, le=1, description="Calibrated probability of the intent.")]
    slots: list[FoundSlot]

    @classmethod
    def of(cls, request: IntentRequest, meaning: Meaning) -> IntentAnswer:
        """The answer to a request."""
        return cls(
            call_id=request.call_id,
            round_id=request.round_id,
            intent=meaning.intent,
            score=round(meaning.score, 4),
            slots=found_slots(meaning.slots),
        )


class ChatRequest(_Request):
    """One message to a bot."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"uid": "ann", "seq": 0, "query": "", "metadata": {"customer_name": "Ann Lee", "amount": "84.50"}},
                {"uid": "ann", "seq": 1, "query": "yes speaking"},
            ]
        }
    )

    uid: Annotated[Identifier, Field(description="The conversation; letters, digits and `. _ : @ + -`.")]
    seq: Annotated[int, Field(ge=0, le=_MAX_ROUND, description="Grows with each message. A retry has the same number.")]
    query: Annotated[Text, Field(description="What the user says. Empty in the first message: the bot's greeting.")]
    bot: BotName = None
    language: Language = None
    metadata: Annotated[
        dict[MetadataText, MetadataText] | None,
        Field(max_length=_MAX_METADATA, description="Values of the bot's variables; read in the first message."),
    ] = None


class ChatState(BaseModel):
    """Where the conversation stands after the message."""

    node: Annotated[str, Field(description="The flow's node that the bot is at.")]
    turns: Annotated[int, Field(description="Messages with a turn of the user's so far.")]
    slots: Annotated[dict[str, str], Field(description="What the user has told by now, in normal form.")]
    ended: Annotated[bool, Field(description="The bot has finished; further messages get an empty reply.")]
    disposition: Annotated[str | None, Field(description="How it ended, in the bot's word.")]
    transfer: Annotated[str | None, Field(description="To whom this message's answer hands the user over.")]


class ChatAnswer(BaseModel):
    """The bot's answer. The same conversation and number give the same answer as long as it is kept."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "uid": "ann",
                    "seq": 1,
                    "reply": "Thank you. What are the last four digits of your account number?",
                    "intent": "affirm",
                    "score": 0.9971,
                    "slots": [],
                    "state": {
                        "node": "check_account",
                        "turns": 1,
                        "slots": {},
                        "ended": False,
                        "disposition": None,
                        "transfer": None,
                    },
                }
            ]
        }
    )

    uid: str
    seq: int
    reply: Annotated[str, Field(description="All that the bot says to this message.")]
    intent: Annotated[
        str, Field(description="Of the query; `oos` where it is none of the bot's; empty for a greeting.")
    ]
    score: Annotated[float, Field(ge=0, le=1, description="Calibrated probability of the intent.")]
    slots: Annotated[list[FoundSlot], Field(description="Values named in the query.")]
    state: ChatState
