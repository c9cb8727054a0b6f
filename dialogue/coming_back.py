"""A caller who was cut off and calls again, with a new call id: where the other call stood is offered.

    new call, earlier call unfinished --offer--> yes: at its node, with its slots
                                                 no, or twice neither: from the start

Whether there is an earlier call of the same caller is the gateway's to know (`gateway.records.callers`). Slots with a
meaning of the earlier call's own (variables from its metadata) are the new call's. A call that stood at a webhook is
not offered: nobody knows whether it was asked, and the new call would ask it under another key. A flow that checks who
is calling lets the slots of that check be forgotten (`forget`): the dialogue then begins at the start again and passes
over what is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from dialogue.flow import Flow
from dialogue.slots import LANGUAGES
from dialogue.state import DialogueState
from dialogue.turns import EarlierCall

__all__ = ["AFRESH_KEY", "GO_ON_KEY", "begin_afresh", "reads_as", "take_up"]

GO_ON_KEY: Final = "1"
AFRESH_KEY: Final = "2"

_GO_ON: Final = {"en": ("continue", "go on", "carry on"), "zh": ("继续", "接着")}
_AFRESH: Final = {"en": ("start over", "start again", "from the start", "the beginning"), "zh": ("重新", "从头")}


def take_up(flow: Flow, fresh: DialogueState, earlier: EarlierCall) -> DialogueState | None:
    """The state in which a new call asks whether to go on; None where there is nothing to offer.

    Args:
        fresh: the new call's, with its variables.
    """
    then = earlier.state
    node = flow.nodes.get(then.node)
    begun = then.turns > 0 or then.returning  # cut off over the offer itself: what was offered is offered again
    if flow.come_back is None or then.disposition is not None or not begun or node is None or not node.listens:
        return None
    known = {name: slot for name, slot in then.slots.items() if name in flow.slots and not flow.slots[name].variable}
    return replace(
        fresh,
        node=then.node,
        slots={**known, **fresh.slots},
        outcome=then.outcome,
        promises=then.promises,
        callback=then.callback,
        continues=earlier.call_id,
        returning=True,
    )


def begin_afresh(flow: Flow, state: DialogueState) -> DialogueState:
    """Without what the earlier call knew."""
    own = {name: slot for name, slot in state.slots.items() if flow.slots[name].variable}
    return replace(
        state,
        slots=own,
        outcome=None,
        promises=(),
        callback={},
        continues=None,
        returning=False,
        no_input=0,
        no_match=0,
    )


def reads_as(flow: Flow, words: str) -> bool | None:
    """Whether a caller's words, or the key pressed, want to go on; None: neither yes nor no."""
    if words in (GO_ON_KEY, AFRESH_KEY):
        return words == GO_ON_KEY
    language = LANGUAGES[flow.language]
    if (answer := language.find_yes_no(words)) is not None:
        return answer

    def mentions(phrases: Mapping[str, tuple[str, ...]]) -> bool:
        return any(language.mentions(words, phrase) for phrase in phrases.get(flow.language, ()))

    return False if mentions(_AFRESH) else True if mentions(_GO_ON) else None
