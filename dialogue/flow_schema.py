"""JSON Schemas of the flow file and the FAQ file, for editors: keys, their meaning, allowed words.

It knows the form only; what parts say about each other is checked by `dialogue.flow_check`. A test holds its keys to
those that `dialogue.flow_yaml` and `dialogue.faq_yaml` read. Draft 2020-12, which yaml-language-server understands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from dialogue.checksums import Checksum
from dialogue.conditions import Relation
from dialogue.faq_yaml import MAX_QUESTION_CHARS
from dialogue.flow import FaqPlace, Stay
from dialogue.flow_parts import MAX_PROMPT_CHARS
from dialogue.node_yaml import EXPECTATIONS
from dialogue.slots import LANGUAGES, SlotType

__all__ = ["faq_schema", "flow_schema"]

Schema: TypeAlias = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SHARE = {"minimum": 0, "maximum": 1}


def flow_schema() -> Schema:
    """The schema as a JSON value; `$defs` are named after what they describe: node, slot, prompt, transition, ..."""
    return {
        "$schema": _DIALECT,
        "title": "voicegate flow",
        **_object(_top(), required=["start", "nodes"]),
        "$defs": {
            **_common(),
            "names": _one_or_more({"type": "string"}),
            "transition": _transition(),
            "transitions": {
                "type": "object",
                "additionalProperties": _one_or_more({"$ref": "#/$defs/transition"}),
            },
            "next": _one_or_more({"anyOf": [{"type": "string"}, _object(_next(), required=["to"])]}),
            "webhook": _object(_webhook(), required=["url"]),
            "subflow": _object(
                {"start": _say("Its first node.", str), "nodes": _map_of("Its nodes; `return` leads back.", "node")},
                required=["start", "nodes"],
            ),
            "slot": _object(_slot(), required=["type"]),
            "variable": _object(_variable(), required=["type"]),
            "no_input": _object({"after_ms": _after_ms(), **_patience("silences")}),
            "no_match": _object(_patience("misunderstandings")),
            "come_back": _object(_come_back()),
            "node": _object(_node()),
        },
    }


def faq_schema() -> Schema:
    """The same for the FAQ file."""
    entries = {"type": "object", "additionalProperties": {"$ref": "#/$defs/entry"}}
    top = {
        "threshold": _say("How near a question must be; by default as measured for the language.", float, **_SHARE),
        "entries": {"description": "What callers ask, by a name of yours.", **entries},
    }
    question = _say("One wording, as a caller says it.", str, maxLength=MAX_QUESTION_CHARS)
    entry = {
        "questions": {"description": "How callers ask it, in several ways.", **_one_or_more(question)},
        "answer": _ref("What the bot answers; then it asks its own question again.", "prompts"),
        "when": _ref("Answered only where all these hold.", "conditions"),
    }
    return {
        "$schema": _DIALECT,
        "title": "voicegate FAQ",
        **_object(top, required=["entries"]),
        "$defs": {**_common(), "entry": _object(entry, required=["questions", "answer"])},
    }


def _common() -> dict[str, Schema]:
    """What both kinds of file have."""
    return {
        "prompt": _prompt(),
        "prompts": _one_or_more({"$ref": "#/$defs/prompt"}),
        "conditions": _conditions(),
    }


def _say(description: str, kind: type, **more: object) -> Schema:
    names = {str: "string", int: "integer", float: "number", bool: "boolean"}
    return {"description": description, "type": names[kind], **more}


def _ref(description: str, name: str) -> Schema:
    return {"description": description, "$ref": f"#/$defs/{name}"}


def _one_or_more(item: Schema) -> Schema:
    return {"anyOf": [item, {"type": "array", "items": item}]}


def _tail_ms(description: str) -> Schema:
    return _say(description, int, minimum=200, maximum=5000)


def _object(properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    schema: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def _words(description: str, words: Sequence[str]) -> Schema:
    return {"description": description, "enum": list(words)}


def _map_of(description: str, name: str) -> Schema:
    return {"description": description, "type": "object", "additionalProperties": {"$ref": f"#/$defs/{name}"}}


def _top() -> dict[str, Schema]:
    return {
        "start": _say("The first node. Its first prompt holds no {slot}.", str),
        "nodes": _map_of("The nodes by name.", "node"),
        "variables": _map_of("Slots known before the call: from its metadata, else their default.", "variable"),
        "slots": _map_of("Slots heard from the caller.", "slot"),
        "no_input": _ref("What to do about a silent caller.", "no_input"),
        "no_match": _ref("What to do about a caller whom nobody understands.", "no_match"),
        "tail_ms": _tail_ms("Silence that ends the caller's turn; by default the gateway's."),
        "anywhere": _ref("Transitions by intent, at every node that has none of its own.", "transitions"),
        "keys": _ref("Transitions by DTMF entry, everywhere.", "transitions"),
        "webhooks": _map_of("Requests to your system.", "webhook"),
        "subflows": _map_of("Groups of nodes that other nodes use.", "subflow"),
        "resume": _ref("Said first when a call goes on after a lost line.", "prompts"),
        "min_score": _say("An intent less sure than this is not understood.", float, **_SHARE),
        "max_turns": _say("After so many caller turns the call goes to no_match's give_up.", int, minimum=1),
        "max_repeats": _say("After so many turns at one node without a new slot, the same.", int, minimum=1),
        "filler": _ref("Said while a reply is slow, each in turn.", "prompts"),
        "time_up": _ref("Said before a call is ended for its length.", "prompts"),
        "unavailable": _ref("Said before a call is ended that the gateway cannot serve.", "prompts"),
        "come_back": _ref("What a caller hears who was cut off and calls again.", "come_back"),
    }


def _after_ms() -> Schema:
    number = {"type": "integer", "minimum": 100, "maximum": 600_000}
    return {"description": "Silence before the bot asks again.", "anyOf": [number, {"const": "never"}]}


def _patience(what: str) -> dict[str, Schema]:
    return {
        "prompts": _ref(f"For the first, second, ... of several {what} in a row.", "prompts"),
        "give_up": _say("The node to go to when the prompts are used up.", str),
    }


def _come_back() -> dict[str, Schema]:
    return {
        "offer": _say("false: such a caller begins afresh.", bool),
        "ask": _ref("Whether to go on where the other call stood.", "prompts"),
        "go_on": _ref("Said after a yes.", "prompts"),
        "afresh": _ref("Said after a no.", "prompts"),
        "forget": _ref("Slots to empty after a yes; the call then goes on from the start.", "names"),
    }


def _prompt() -> Schema:
    text = _say("What is said. {slot} is replaced by the value as it is spoken.", str, maxLength=MAX_PROMPT_CHARS)
    form = {
        "text": text,
        "recording": _say("A file in the bot's folder to play instead.", str),
        "interruptible": _say("false: heard out, whatever the caller says.", bool),
        "needs": _say("Left out where this slot has no value.", str),
        "when": _ref("Left out unless all these hold.", "conditions"),
    }
    return {"anyOf": [text, _object(form, required=["text"])]}


def _conditions() -> Schema:
    value = {"anyOf": [{"type": "string"}, {"type": "number"}]}
    tests = {word.value: _one_or_more(value) for word in Relation if word not in (Relation.FILLED, Relation.EMPTY)}
    slot = {
        "description": "filled, empty, a value, values, tests such as {over: 100}; {slot} is another slot's.",
        "anyOf": [*_one_or_more(value)["anyOf"], _object(tests)],
    }
    return {"type": "object", "additionalProperties": slot}


def _next() -> dict[str, Schema]:
    return {"when": _ref("Only where all these hold.", "conditions"), "to": _say("The node to go to.", str)}


def _webhook() -> dict[str, Schema]:
    return {
        "url": _say("Where it is posted to; its host must be among the gateway's webhooks.hosts.", str),
        "send": _ref("Slots that are sent.", "names"),
        "take": {
            "description": "Slots to fill, and their keys in the answer.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
        "timeout_ms": _say("Longest wait for one answer.", int, minimum=100, maximum=10_000),
        "retries": _say("Tries after the first.", int, minimum=0, maximum=5),
    }


def _transition() -> Schema:
    node = _say("The node to go to.", str)
    form = {
        "to": node,
        "stay": _words("Stay: say the node again, ask again, or only listen.", list(Stay)),
        "say": _ref("Said on the way.", "prompts"),
        "needs": _say("Only where this slot has a value.", str),
        "when": _ref("Only where all these hold.", "conditions"),
        "changes": _ref("Only where the turn names another value for one of these filled slots; it is taken.", "names"),
        "forget": _ref("Slots to empty on the way.", "names"),
    }
    return {"anyOf": [node, _object(form)]}


def _slot() -> dict[str, Schema]:
    digits = {"minimum": 1, "maximum": 40}
    days = {"minimum": -3660, "maximum": 3660}
    return {
        "type": _words("What kind of value it is.", list(SlotType)),
        "entity": _say("The slot's name in the examples; by default its own.", str),
        "early": _ref("Intents in whose turns the slot is taken wherever the dialogue stands; * is any.", "names"),
        "default_from": _say("Another slot, whose value is said while this one is empty.", str),
        "length": _say("digits: exactly so many.", int, **digits),
        "min_length": _say("digits: at least so many.", int, **digits),
        "max_length": _say("digits: at most so many.", int, **digits),
        "equals": _say("digits: must be the value of this slot.", str),
        "choices": {
            "description": "choice: each name and the words for it.",
            "type": "object",
            "additionalProperties": {"$ref": "#/$defs/names"},
        },
        "earliest_days": _say("date: not before so many days from the call's.", int, **days),
        "latest_days": _say("date: not after so many days from the call's.", int, **days),
        "earliest": _say("time: not before, such as 08:00 in quotes.", str),
        "latest": _say("time: not after, such as 18:00 in quotes.", str),
        "minimum": _say("amount, number: not below.", float),
        "maximum": _say("amount, number: not above.", float),
        "currency": _words(
            "amount: how it is said.", sorted({c for lang in LANGUAGES.values() for c in lang.CURRENCIES})
        ),
        "checksum": _words("digits: its last digits check the others.", list(Checksum)),
    }


def _variable() -> dict[str, Schema]:
    slot = {key: form for key, form in _slot().items() if key not in ("default_from", "early")}
    return {**slot, "default": _say("The value where the call's metadata has none.", str)}


def _node() -> dict[str, Schema]:
    return {
        "say": _ref("Said on entry.", "prompts"),
        "ask": _ref("The question; said again after a misunderstanding.", "prompts"),
        "collect": _say("The slot to fill; then on to `then`. Passed over where it is filled.", str),
        "optional": _ref("Slots taken too if the caller mentions them.", "names"),
        "confirm": _ref("Slots being confirmed: another value replaces one, and the question is asked again.", "names"),
        "invalid": _ref("Said where a value was heard that the slot refuses.", "prompts"),
        "on": _ref("Transitions by intent; * is any turn that nothing else takes.", "transitions"),
        "keys": _ref("Transitions by DTMF entry.", "transitions"),
        "then": _ref("The next node: a name, or options with `when`, the last without.", "next"),
        "use": _say("The sub-flow to go through; then on to `then`.", str),
        "with": {
            "description": "What names of the sub-flow, of slots and nodes, are here.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
        "webhook": _say("The webhook to call; then on to `then`, or to `failed`.", str),
        "failed": _say("The node to go to where the webhook gave no good answer.", str),
        "hang_up": _say("Ends the call with this disposition, unless an outcome was set on the way.", str),
        "transfer": _say("Ends by handing over to this target, with all slots.", str),
        "outcome": _say("The bot's word for what was achieved, kept until another node sets one.", str),
        "promise": _ref("Slots that the caller has now promised: they are in the call's record.", "names"),
        "callback": {
            "description": "A call back that is now agreed on, in the call's record: date, time, ... and their slots.",
            "type": "object",
            "additionalProperties": {"type": "string"},
        },
        "no_input": _ref("This node's own; what it leaves out comes from the top.", "no_input"),
        "no_match": _ref("This node's own; what it leaves out comes from the top.", "no_match"),
        "tail_ms": _tail_ms("Silence that ends the caller's turn here; by default as at the top."),
        "expect": _words("A hint to the recogniser; by default from the slot.", sorted(EXPECTATIONS)),
        "faq": _words("Where the FAQ stands: after intents and slots, before them, or nowhere.", list(FaqPlace)),
        "assistant": _say("false: the bot's assistant is not asked here.", bool),
    }
