"""The flow file: YAML in, `Flow` out, or every fault at once with its line.

```yaml
start: greet
variables:                    # known before the call: from its metadata, else `default`
  amount: {type: amount, default: "84.50"}
slots:                        # heard from the caller; `entity` is the NLU's name, default the slot's own
  promise_date: {type: date, entity: date, earliest_days: 0, latest_days: 31, early: promise_to_pay}
no_input: {after_ms: 6000, prompts: ["Are you there?"], give_up: goodbye}      # after_ms: never = no timer
no_match: {prompts: ["Sorry?"], give_up: goodbye}
anywhere: {speak_to_person: person, repeat: {stay: repeat}}   # intent: node or {to|stay, say, when, changes, forget}
keys: {"0": person}
webhooks:
  note: {url: "https://crm.example/promises", send: [promise_date]}
subflows:
  pick_day:                   # a group of nodes for any slot; `return` is the node after its use
    start: ask
    nodes:
      ask: {ask: "Which day?", collect: day, then: check}
      check: {ask: "{day}?", confirm: day, on: {affirm: return, deny: {to: ask, forget: day}}}
nodes:
  greet:
    say: Hello.                              # a text, {text, recording, needs, when, interruptible}, or a list
    ask: "When will you pay {amount}?"       # said again after a misunderstanding
    on: {affirm: ask_day}                    # "*" is any turn that nothing else takes
  ask_day:
    use: pick_day
    with: {day: promise_date}
    then: [{when: {amount: {over: 1000}}, to: person}, note]
  note: {webhook: note, then: goodbye, failed: person}
  goodbye: {say: Goodbye., hang_up: done}
  person: {say: One moment., transfer: agent}
```

Reading is in two passes: the sections' own form, here (slots in `dialogue.slot_yaml`, nodes in `dialogue.node_yaml`,
their small parts in `dialogue.flow_parts`); then what they say about each other, in `dialogue.flow_check`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from dialogue.flow import ComeBack, Flow, Prompt, Webhook
from dialogue.flow_check import check_flow
from dialogue.flow_parts import FlowParts
from dialogue.node_yaml import NodeReader, read_patience, read_tail_ms
from dialogue.slot_yaml import read_slots
from dialogue.web_addresses import is_web_address
from dialogue.yaml_source import Fault, Faults, Located, Section, read_yaml

__all__ = ["load_flow"]

_DEFAULT_NO_INPUT_MS = 6000
_DEFAULT_MAX_REPEATS = 8
_FILLERS = {"en": "One moment, please.", "zh": "请稍等。"}
_TIME_UP = {
    "en": "I am sorry, I have to end this call now. Goodbye.",
    "zh": "很抱歉，通话时间已到，再见。",
}
_UNAVAILABLE = {
    "en": "I am sorry, we have a technical problem. Please call again in a few minutes. Goodbye.",
    "zh": "很抱歉，系统暂时出现故障，请过几分钟再打来，再见。",
}
_COME_BACK = {
    "en": (
        "Welcome back. We were cut off before we had finished. Shall we go on where we were?",
        "Good.",
        "All right, from the beginning.",
    ),
    "zh": ("欢迎回来，刚才通话中断了。要接着刚才的继续吗？", "好的。", "好的，我们重新开始。"),
}
_NO_WORDS = ("", "", "")


def load_flow(path: Path, *, language: str, intents: Collection[str] | None = None) -> tuple[Flow | None, list[Fault]]:
    """Read and check a flow file.

    Args:
        intents: those that the bot's examples have; None where it has no examples of its own.

    Returns:
        The flow and no faults, or None and all of them.
    """
    faults = Faults(str(path))
    top = read_yaml(path, "the flow", faults)
    if top is None:
        return None, faults.found
    parts = FlowParts(faults, path.parent)
    flow = _flow(parts, top, language)
    if flow is not None:
        check_flow(flow, parts.references, intents, faults)
    faults.found.sort(key=lambda fault: fault.line)
    return (None if faults.found else flow), faults.found


def _flow(parts: FlowParts, top: Section, language: str) -> Flow | None:
    top.require("start", "name the first node: `start: greet`")
    top.require("nodes", "add a `nodes:` section")
    start = top.text("start")
    min_score = top.decimal("min_score", low=0, high=1)
    max_turns = top.integer("max_turns", low=1, high=1000)
    max_repeats = top.integer("max_repeats", low=2, high=1000)
    for key in ("variables", "slots"):
        parts.slots |= read_slots(parts, top, key, variable=key == "variables", language=language)
    no_input_ms, no_input = read_patience(parts, top, "no_input", _DEFAULT_NO_INPUT_MS)
    _, no_match = read_patience(parts, top, "no_match", None)
    anywhere = parts.transitions(top, "anywhere")
    keys = parts.transitions(top, "keys")
    webhooks = _webhooks(parts, top)
    resume = parts.prompts(top, "resume")
    filler = parts.prompts(top, "filler") or _default_prompt(_FILLERS, language)
    time_up = parts.prompts(top, "time_up") or _default_prompt(_TIME_UP, language)
    unavailable = parts.prompts(top, "unavailable") or _default_prompt(_UNAVAILABLE, language)
    come_back = _come_back(parts, top, language)
    tail_ms = read_tail_ms(top)
    reader = NodeReader(parts, no_input_ms=no_input_ms, no_input=no_input, no_match=no_match, tail_ms=tail_ms)
    nodes = reader.nodes(top)
    top.finish()
    if max_turns and no_match.give_up is None:
        line = top.line_of("max_turns")
        parts.faults.add(line, "'max_turns' has nowhere to go", "give 'no_match' a 'give_up' node")
    if start is None or not nodes:
        return None
    parts.references.nodes.append(start)
    return Flow(
        language=language,
        start=start.text,
        nodes=nodes,
        slots=parts.slots,
        anywhere=anywhere,
        keys=keys,
        webhooks=webhooks,
        give_up=no_match.give_up,
        resume=resume,
        min_score=float(min_score or 0),
        max_turns=max_turns,
        max_repeats=max_repeats or _DEFAULT_MAX_REPEATS,
        filler=filler,
        time_up=time_up,
        unavailable=unavailable,
        come_back=come_back,
    )


def _default_prompt(texts: Mapping[str, str], language: str) -> tuple[Prompt, ...]:
    text = texts.get(language)
    return () if text is None else (Prompt(text=text),)


def _come_back(parts: FlowParts, top: Section, language: str) -> ComeBack | None:
    """None where the flow offers nothing, or has no words for it in its language."""
    section = top.section("come_back")
    texts = _COME_BACK.get(language, _NO_WORDS)
    ask, go_on, afresh = ((Prompt(text=text),) if text else () for text in texts)
    if section is None:
        return ComeBack(ask=ask, go_on=go_on, afresh=afresh) if ask else None
    offered = section.flag("offer", True)
    read = ComeBack(
        ask=parts.prompts(section, "ask") or ask,
        go_on=parts.prompts(section, "go_on") or go_on,
        afresh=parts.prompts(section, "afresh") or afresh,
        forget=parts.slot_names(section, "forget"),
    )
    section.finish()
    return read if offered and read.ask else None


def _webhooks(parts: FlowParts, top: Section) -> dict[str, Webhook]:
    section = top.section("webhooks")
    if section is None:
        return {}
    entries = section.entries()
    return {name: _webhook(parts, Section(value, f"webhook {name!r}", parts.faults)) for name, _, value in entries}


def _webhook(parts: FlowParts, section: Section) -> Webhook:
    section.require("url", "write the address of your system: `url: https://...`")
    url = section.text("url")
    if url and not is_web_address(url.text):
        parts.faults.add(url.line, f"{section.what} has no web address: {url.text!r}", "write https://host/path")
    take = {}
    if answers := section.section("take"):
        for name, line, _ in answers.entries():
            parts.references.slots.append(Located(name, line))
            if key := answers.text(name):
                take[name] = key.text
    webhook = Webhook(
        url=url.text if url else "",
        send=parts.slot_names(section, "send"),
        take=take,
        timeout_ms=section.integer("timeout_ms", low=100, high=10_000),
        retries=section.integer("retries", low=0, high=5),
    )
    section.finish()
    return webhook
