"""What the parts of a flow say about each other: the second pass over a flow file.

Names that lead nowhere, nodes that nothing reaches, circles that would never listen, intents without
examples, prompts whose slot may be empty, first words that cannot be ready before a call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dialogue.conditions import Condition, Relation
from dialogue.flow import ANY_INTENT, Faq, Flow, Node, Prompt, Transition
from dialogue.yaml_source import Faults, Located, suggest

__all__ = ["FlowReferences", "check_faq", "check_flow"]


@dataclass(slots=True)
class FlowReferences:
    """Names that a flow file mentions, with their lines: what the reader collects for the checks."""

    lines: dict[str, int] = field(default_factory=dict)
    """Each node's own line."""
    nodes: list[Located] = field(default_factory=list)
    slots: list[Located] = field(default_factory=list)
    intents: list[Located] = field(default_factory=list)
    webhooks: list[Located] = field(default_factory=list)
    prompts: list[tuple[Prompt, int]] = field(default_factory=list)


def check_flow(flow: Flow, references: FlowReferences, intents: Collection[str] | None, faults: Faults) -> None:
    """Note every fault between the parts of `flow`.

    Args:
        intents: those that the bot's examples have; None where it has no examples of its own.
    """
    before = len(faults.found)
    _check_names(flow, references, faults)
    _check_intents(references, intents, faults)
    _check_first_words(flow, references.lines, faults)
    _check_reach(flow, references.lines, faults)
    _check_circles(flow, references.lines, faults)
    if len(faults.found) == before:  # with names missing, every slot behind them would seem empty
        _check_values(flow, references, faults)


def check_faq(flow: Flow, faq: Faq, references: FlowReferences, faults: Faults) -> None:
    """Note every fault between a bot's FAQ, whose `references` these are, and its flow."""
    before = len(faults.found)
    _check_names(flow, references, faults)
    if len(faults.found) == before:
        have = _filled_everywhere(flow, _filled_on_entry(flow))
        lines = {id(prompt): line for prompt, line in references.prompts}
        for entry in faq.entries.values():
            known = have | _assured(None, entry.when)
            _check_prompts(flow, entry.answer, known, "every node that listens", lines, faults)


def _check_names(flow: Flow, references: FlowReferences, faults: Faults) -> None:
    for named in references.nodes:
        if named.text not in flow.nodes:
            faults.add(named.line, f"there is no node {named.text!r}", suggest(named.text, flow.nodes))
    for named in references.slots:
        if named.text not in flow.slots:
            faults.add(named.line, f"there is no slot {named.text!r}", suggest(named.text, flow.slots))
    for named in references.webhooks:
        if named.text not in flow.webhooks:
            faults.add(named.line, f"there is no webhook {named.text!r}", suggest(named.text, flow.webhooks))
    for prompt, line in references.prompts:
        for name in prompt.slots:
            if name not in flow.slots:
                faults.add(line, f"a prompt names {{{name}}}, which is no slot", suggest(name, flow.slots))


def _check_intents(references: FlowReferences, intents: Collection[str] | None, faults: Faults) -> None:
    for named in references.intents if intents is not None else ():
        if named.text != ANY_INTENT and named.text not in (intents or ()):
            mend = f"add examples, or {suggest(named.text, intents or ())}"
            faults.add(named.line, f"no example has the intent {named.text!r}", mend)


def _check_first_words(flow: Flow, lines: Mapping[str, int], faults: Faults) -> None:
    start = flow.nodes.get(flow.start)
    if start is None:
        return
    first = next(iter((*start.say, *start.ask)), None)
    if first is None or first.slots or first.needs:
        faults.add(
            lines[start.name],
            f"the first prompt of {start.name!r} is not fixed, so it is not ready when a call comes",
            "begin with a prompt without {slot}",
        )


def _options(*tables: Mapping[str, Sequence[Transition]]) -> Iterator[Transition]:
    for table in tables:
        for options in table.values():
            yield from options


def _check_reach(flow: Flow, lines: Mapping[str, int], faults: Faults) -> None:
    common = (t.to for t in _options(flow.anywhere, flow.keys))
    waiting: list[str | None] = [flow.start, flow.give_up, *common]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name is None or name not in flow.nodes or name in reached:
            continue
        reached.add(name)
        node = flow.nodes[name]
        waiting += [*node.successors, node.no_input.give_up, node.no_match.give_up]
        waiting += [t.to for t in _options(node.on, node.keys)]
    for name in flow.nodes.keys() - reached:
        faults.add(lines[name], f"nothing leads to node {name!r}", "name it in a transition, or remove it")


def _check_circles(flow: Flow, lines: Mapping[str, int], faults: Faults) -> None:
    """A circle of `then`: nodes that pass on, or collect what is filled already, would never listen."""
    for name in flow.nodes:
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            here = flow.nodes.get(waiting.pop())
            fresh = [to for to in here.successors if to not in seen] if here else []
            seen.update(fresh)
            waiting += fresh
        if name in seen:
            faults.add(lines[name], f"node {name!r} leads back to itself by 'then'", "let one node on the way listen")


def _check_values(flow: Flow, references: FlowReferences, faults: Faults) -> None:
    """A prompt may name a slot only where every way to it has filled the slot, or it would be left out."""
    lines = {id(prompt): line for prompt, line in references.prompts}
    filled = _filled_on_entry(flow)

    def check(prompts: Iterable[Prompt], have: frozenset[str], where: str) -> None:
        _check_prompts(flow, prompts, have, where, lines, faults)

    for node in flow.nodes.values():
        have = filled[node.name]
        own = (*node.say, *node.ask, *node.invalid, *node.no_input.prompts, *node.no_match.prompts)
        check(own, have, f"node {node.name!r}")
        for transition in _options(node.on, node.keys):
            check(transition.say, have | _gained(transition), f"node {node.name!r}")
    everywhere = _filled_everywhere(flow, filled)
    for transition in _options(flow.anywhere, flow.keys):
        check(transition.say, everywhere | _gained(transition), "every node that listens")
    check(flow.resume, everywhere, "every node that listens")
    if flow.come_back is not None:
        known = everywhere - set(flow.come_back.forget)
        check((*flow.come_back.ask, *flow.come_back.go_on, *flow.come_back.afresh), known, "a call taken up again")


def _check_prompts(
    flow: Flow,
    prompts: Iterable[Prompt],
    have: frozenset[str],
    where: str,
    lines: Mapping[int, int],
    faults: Faults,
) -> None:
    """`lines` are those of prompts by their identity."""
    for prompt in prompts:
        known = have | _assured(prompt.needs, prompt.when)
        for name in prompt.slots:
            if not _has_value(flow, name, known):
                faults.add(
                    lines[id(prompt)],
                    f"{{{name}}} may have no value at {where}",
                    f"fill it on every way there, or let the prompt say `needs: {name}`",
                )


def _filled_everywhere(flow: Flow, filled: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The slots that have a value wherever the caller is listened to."""
    listening = [filled[node.name] for node in flow.nodes.values() if node.listens]
    return frozenset.intersection(*listening) if listening else frozenset()


def _assured(needs: str | None, when: Iterable[Condition]) -> frozenset[str]:
    """The slots that have a value where these hold."""
    tested = frozenset(condition.slot for condition in when if condition.relation is not Relation.EMPTY)
    return tested | {needs} if needs else tested


def _gained(transition: Transition) -> frozenset[str]:
    """The slots that have a value where the transition is taken."""
    sure = _assured(transition.needs, transition.when)
    return sure | set(transition.changes) if len(transition.changes) == 1 else sure


def _has_value(flow: Flow, name: str, have: Collection[str]) -> bool:
    if name in have:
        return True
    stand_in = flow.slots[name].default_from
    return stand_in is not None and stand_in in have


def _filled_on_entry(flow: Flow) -> dict[str, frozenset[str]]:
    """For each node, the slots that have a value whichever way it was reached: shrinks to a fixed point."""
    filled = {flow.start: frozenset(name for name, spec in flow.slots.items() if spec.variable)}
    waiting = [flow.start]
    while waiting:
        node = flow.nodes[waiting.pop()]
        for to, have in _ways(flow, node, filled[node.name]):
            common = filled.get(to, have) & have
            if filled.get(to) != common:
                filled[to] = common
                waiting.append(to)
    return filled


def _ways(flow: Flow, node: Node, have: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Nodes that can follow, and the slots then filled."""
    reached = have | {node.collect} if node.collect else have
    if node.webhook is not None and node.failed is not None:
        yield node.failed, have
        reached |= set(flow.webhooks[node.webhook].take)
    for branch in node.branches:
        yield branch.to, reached | _assured(None, branch.when)
    if node.then is not None:
        yield node.then, reached
    if not node.listens:
        return
    for to in (node.no_input.give_up, node.no_match.give_up, flow.give_up):
        if to is not None:
            yield to, have
    for transition in _options(node.on, node.keys, flow.anywhere, flow.keys):
        # One that stays comes back to its node, whose question is asked again without what it forgets.
        yield transition.to or node.name, (have | _gained(transition)) - set(transition.forget)
