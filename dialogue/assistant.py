"""A bot's second track: a language model that is asked where neither intent nor FAQ answers. Section of bot.yaml:

```yaml
assistant:
  url: https://models.example.com/v1/chat/completions      # OpenAI's chat completions, streamed
  model: small-1
  instructions: You answer callers of a library in one short sentence. If you do not know, say so.
  wait_ms: 500          # an answer that is not there so long after the caller's turn is done without
  max_chars: 300
  history: 4            # turns before that it is told of
```

What it says is words and nothing else: the dialogue says them, asks its own question again, and goes nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from dialogue.state import HISTORY_TURNS
from dialogue.web_addresses import is_web_address
from dialogue.yaml_source import Faults, Section

__all__ = ["ASSISTANT", "Assistant", "read_assistant"]

ASSISTANT = "assistant"
"""`source` of what the second track said (`dialogue.turns.Say`)."""

_INSTRUCTIONS = {
    "en": "You answer callers on the phone for a bot, in one or two short spoken sentences without any markup. "
    "You cannot do anything and promise nothing. If you do not know, say so.",
    "zh": "你替电话机器人回答来电者，用一两句简短的口语，不要任何格式。"
    "你不能办理任何事，也不要承诺任何事。不知道就说不知道。",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """Which model, what it is told, and what its answer may take: `wait_ms` from the end of the caller's turn."""

    url: str
    model: str
    instructions: str
    wait_ms: int = 500
    max_chars: int = 300
    history: int = 4


def read_assistant(top: Section, language: str, faults: Faults) -> Assistant | None:
    """The section `assistant`; None where it is absent or of no use."""
    section = top.section("assistant")
    if section is None:
        return None
    section.require("url", "write the address of the model: `url: https://...`")
    section.require("model", "name the model")
    url, model, instructions = section.text("url"), section.text("model"), section.text("instructions")
    if url and not is_web_address(url.text):
        faults.add(url.line, f"{section.what} has no web address: {url.text!r}", "write https://host/path")
    wait_ms = section.integer("wait_ms", low=0, high=5000)
    max_chars = section.integer("max_chars", low=20, high=1000)
    history = section.integer("history", low=0, high=HISTORY_TURNS)
    section.finish()
    if url is None or model is None:
        return None
    usual = Assistant(url=url.text, model=model.text, instructions=_INSTRUCTIONS.get(language, _INSTRUCTIONS["en"]))
    return Assistant(
        url=usual.url,
        model=usual.model,
        instructions=instructions.text if instructions else usual.instructions,
        wait_ms=usual.wait_ms if wait_ms is None else wait_ms,
        max_chars=max_chars or usual.max_chars,
        history=usual.history if history is None else history,
    )
