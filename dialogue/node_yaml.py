"""Nodes of a flow file, and sub-flows: groups of nodes that other nodes use.

A sub-flow is read anew for each use, in the use's own names: node `ask_day` with `use: pick_day` gets the nodes
`ask_day.ask`, `ask_day.check`, ... and passes on to the first of them. So all that runs and checks a flow knows nodes
only, and a call can stand, and be resumed, anywhere in a sub-flow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import yaml

from dialogue.flow import Branch, FaqPlace, Node, Patience
from dialogue.flow_parts import RETURN, FlowParts, Scope
from dialogue.slots import SlotType
from dialogue.yaml_source import Located, Section, suggest

__all__ = ["EXPECTATIONS", "NodeReader", "read_patience", "read_tail_ms"]

_EXPECT = {
    SlotType.DIGITS: "digits",
    SlotType.NUMBER: "number",
    SlotType.AMOUNT: "amount",
    SlotType.DATE: "date",
    SlotType.YES_NO: "yes_no",
}
EXPECTATIONS = frozenset(_EXPECT.values())
"""What a node can wait for: words of `audio.asr.Expectation`."""

_IMPATIENT = Patience()


def read_patience(
    parts: FlowParts, parent: Section, key: str, after_ms: int | None, inherited: Patience = _IMPATIENT
) -> tuple[int | None, Patience]:
    """`no_input` or `no_match`: the time of the former, and the prompts; what it leaves out is inherited."""
    section = parent.section(key)
    if section is None:
        return after_ms, inherited
    if key == "no_input" and (written := section.text("after_ms")):
        after_ms = None if written.text == "never" else section.integer("after_ms", low=100, high=600_000)
    prompts = parts.prompts(section, "prompts")
    give_up = parts.node_name(section, "give_up")
    section.finish()
    return after_ms, Patience(prompts=prompts or inherited.prompts, give_up=give_up or inherited.give_up)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SubFlow:
    """A group of nodes as it stands in the file."""

    start: Located
    line: int
    nodes: Mapping[str, tuple[int, yaml.Node]]


def read_tail_ms(section: Section) -> int | None:
    """The silence that ends a caller's turn; None where it is left out."""
    return section.integer("tail_ms", low=200, high=5000)


class NodeReader:
    """Reads all nodes of one flow. What they leave out of `no_input`, `no_match` and `tail_ms` is the flow's."""

    def __init__(
        self,
        parts: FlowParts,
        *,
        no_input_ms: int | None,
        no_input: Patience,
        no_match: Patience,
        tail_ms: int | None,
    ) -> None:
        self._parts = parts
        self._faults = parts.faults
        self._no_input_ms = no_input_ms
        self._no_input = no_input
        self._no_match = no_match
        self._tail_ms = tail_ms
        self._subflows: dict[str, _SubFlow] = {}
        self._used: set[str] = set()
        self._open: list[str] = []  # sub-flows being read, one inside the other
        self._nodes: dict[str, Node] = {}

    def nodes(self, top: Section) -> dict[str, Node]:
        """The sections `subflows` and `nodes`."""
        if subflows := top.section("subflows"):
            for name, line, value in subflows.entries():
                self._read_subflow(name, line, Section(value, f"sub-flow {name!r}", self._faults))
        if nodes := top.section("nodes"):
            for name, line, value in nodes.entries():
                self._read_node(name, line, value)
        for name in self._subflows.keys() - self._used:
            mend = f"add a node with `use: {name}`, or remove it"
            self._faults.add(self._subflows[name].line, f"no node uses sub-flow {name!r}", mend)
        return self._nodes

    # Sub-flows

    def _read_subflow(self, name: str, line: int, section: Section) -> None:
        section.require("start", "name its first node")
        section.require("nodes", "add a `nodes:` section")
        start, nodes = section.text("start"), section.section("nodes")
        section.finish()
        if start is None or nodes is None:
            return
        found = {inner: (at, node) for inner, at, node in nodes.entries()}
        if start.text not in found:
            what = f"there is no node {start.text!r} in sub-flow {name!r}"
            self._faults.add(start.line, what, suggest(start.text, found))
        else:
            self._subflows[name] = _SubFlow(start=start, line=line, nodes=found)

    def _use(self, node: Node, section: Section, use: Located, given: Mapping[str, Located]) -> Node:
        """The node with its sub-flow read: it passes on to the first node of that."""
        subflow = self._subflows.get(use.text)
        if subflow is None:
            self._faults.add(use.line, f"there is no sub-flow {use.text!r}", suggest(use.text, self._subflows))
            return node
        if use.text in self._open:
            self._faults.add(use.line, f"sub-flow {use.text!r} uses itself", "lead back to one of its nodes instead")
            return node
        self._used.add(use.text)
        prefix = f"{node.name}."
        after = Located(node.then or node.name, section.line_of("then"))
        if node.branches:
            after = replace(after, text=prefix + RETURN)
            self._parts.references.lines[after.text] = after.line
            self._nodes[after.text] = Node(name=after.text, branches=node.branches, then=node.then)
        scope = Scope(prefix=prefix, nodes=frozenset(subflow.nodes), given={RETURN: after, **given})
        self._open.append(use.text)
        with self._parts.inside(scope):
            for inner, (line, value) in subflow.nodes.items():
                self._read_node(inner, line, value)
        self._open.pop()
        for name in given.keys() - scope.used:
            what = f"sub-flow {use.text!r} names no {name!r}"
            self._faults.add(given[name].line, what, "correct it, or remove it")
        if (RETURN in scope.used) != (node.then is not None):
            returns = "returns, and node {!r} has no 'then'" if node.then is None else "never returns to node {!r}"
            mend = (
                "add `then: NODE`" if node.then is None else f"let one of its nodes lead to `{RETURN}`, or drop `then`"
            )
            self._faults.add(use.line, f"sub-flow {use.text!r} {returns.format(node.name)}", mend)
        return replace(node, branches=(), then=prefix + subflow.start.text)

    def _given(self, section: Section) -> dict[str, Located]:
        """The names that a use gives its sub-flow, as they are meant where it stands."""
        names = section.section("with")
        if names is None:
            return {}
        given = {}
        for inner, _, _ in names.entries():
            if outer := names.text(inner):
                as_node = self._parts.scope.node(outer)
                given[inner] = as_node if as_node != outer else self._parts.scope.slot(outer)
        return given

    # Nodes

    def _read_node(self, name: str, line: int, value: yaml.Node) -> None:
        """Read one node, and those of the sub-flow that it uses."""
        if "." in name or name == RETURN:
            self._faults.add(line, f"a node cannot be named {name!r}", "use letters, digits and _")
        section = Section(value, f"node {name!r}", self._faults)
        full = self._parts.scope.prefix + name
        self._parts.references.lines[full] = line
        node = self._node(full, section)
        use, given = section.text("use"), self._given(section)
        if use and (node.ask or node.on or node.keys or node.collect or node.ends or node.webhook):
            mend = "leave it `say`, `with` and `then`; the rest is for nodes of their own"
            self._faults.add(section.line, f"node {name!r} uses a sub-flow and does more", mend)
        elif use:
            node = self._use(node, section, use, given)
        elif given:
            self._faults.add(section.line_of("with"), f"node {name!r} has 'with' but no 'use'", "add `use: SUB-FLOW`")
        section.finish()
        self._nodes[full] = node
        self._check_form(node, section)

    def _node(self, name: str, section: Section) -> Node:
        parts = self._parts
        collect = parts.slot_name(section, "collect")
        confirm = parts.slot_names(section, "confirm")
        branches, then = self._then(section)
        no_input_ms, no_input = read_patience(parts, section, "no_input", self._no_input_ms, self._no_input)
        _, no_match = read_patience(parts, section, "no_match", None, self._no_match)
        if webhook := section.text("webhook"):
            parts.references.webhooks.append(webhook)
        hang_up, transfer, outcome = (section.text(k) for k in ("hang_up", "transfer", "outcome"))
        return Node(
            name=name,
            say=parts.prompts(section, "say"),
            ask=parts.prompts(section, "ask"),
            collect=collect,
            optional=parts.slot_names(section, "optional"),
            confirm=confirm,
            invalid=parts.prompts(section, "invalid"),
            on=parts.transitions(section, "on"),
            keys=parts.transitions(section, "keys"),
            branches=branches,
            then=then,
            webhook=webhook.text if webhook else None,
            failed=parts.node_name(section, "failed"),
            hang_up=hang_up.text if hang_up else None,
            transfer=transfer.text if transfer else None,
            outcome=outcome.text if outcome else None,
            promise=parts.slot_names(section, "promise"),
            callback=self._callback(section),
            no_match=no_match,
            no_input=no_input,
            no_input_ms=no_input_ms,
            tail_ms=read_tail_ms(section) or self._tail_ms,
            expect=self._expect(section, collect, confirm),
            faq=self._faq(section),
            assistant=section.flag("assistant", True),
        )

    def _then(self, section: Section) -> tuple[tuple[Branch, ...], str | None]:
        """The next node: by a name, or a list of options, the last of which always holds."""
        branches: list[Branch] = []
        then: str | None = None
        options = section.nodes("then")
        for number, option in enumerate(options, 1):
            transition = self._parts.transition(option, f"'then' of {section.what}")
            if transition is None:
                continue
            line = option.start_mark.line + 1
            if transition.to is None or transition.say or transition.needs or transition.forget or transition.changes:
                what = f"'then' of {section.what} has more than 'when' and 'to'"
                self._faults.add(line, what, "write a node's name or {when: ..., to: NODE}")
            elif bool(transition.when) == (number == len(options)):
                last = "is not always possible" if transition.when else "hides those after it"
                mend = "end the list with a node's name alone"
                self._faults.add(line, f"option {number} in 'then' of {section.what} {last}", mend)
            elif transition.when:
                branches.append(Branch(to=transition.to, when=transition.when))
            else:
                then = transition.to
        return tuple(branches), then

    def _callback(self, section: Section) -> dict[str, str]:
        callback = section.section("callback")
        if callback is None:
            return {}
        names = ((key, self._parts.slot_name(callback, key)) for key, _, _ in callback.entries())
        return {key: slot for key, slot in names if slot is not None}

    def _expect(self, section: Section, collect: str | None, confirm: tuple[str, ...]) -> str | None:
        expect = section.text("expect")
        if expect:
            if expect.text not in EXPECTATIONS:
                self._faults.add(expect.line, f"unknown 'expect' {expect.text!r}", suggest(expect.text, EXPECTATIONS))
            return expect.text
        if collect is not None and collect in self._parts.slots:
            return _EXPECT.get(self._parts.slots[collect].type)
        return "yes_no" if confirm else None

    def _faq(self, section: Section) -> FaqPlace:
        place = section.text("faq")
        if place is None or place.text in list(FaqPlace):
            return FaqPlace(place.text) if place else FaqPlace.LAST
        self._faults.add(place.line, f"unknown 'faq' {place.text!r}", suggest(place.text, FaqPlace))
        return FaqPlace.LAST

    def _check_form(self, node: Node, section: Section) -> None:
        """A node does one thing: pass on, ask the operator's system, end, or listen."""
        name = section.what.removeprefix("node ")
        asks = node.ask or node.on or node.keys or node.confirm
        if node.hang_up is not None and node.transfer is not None:
            self._faults.add(section.line, f"node {name} hangs up and transfers", "keep one of them")
        if node.ends and (asks or node.then or node.collect or node.webhook):
            self._faults.add(
                section.line,
                f"node {name} ends the call and yet goes on",
                "remove hang_up/transfer, or then/ask/on/keys/collect/confirm",
            )
        elif node.webhook and (asks or node.collect):
            mend = "let a node after it ask"
            self._faults.add(section.line, f"node {name} calls a webhook and yet waits for the caller", mend)
        elif node.webhook and (node.then is None or node.failed is None):
            mend = "add `then: NODE` and `failed: NODE`: your system may not answer"
            self._faults.add(section.line, f"node {name} calls a webhook and then does nothing", mend)
        elif node.failed and not node.webhook:
            self._faults.add(section.line, f"node {name} has 'failed' but no 'webhook'", "add `webhook: NAME`")
        elif node.collect and node.then is None:
            self._faults.add(
                section.line, f"node {name} collects {node.collect!r} and then does nothing", "add `then: NODE`"
            )
        elif node.then and not node.collect and asks:
            self._faults.add(
                section.line,
                f"node {name} asks and yet goes on without an answer",
                "remove `then`, or say what it collects",
            )
        elif node.optional and not node.collect:
            self._faults.add(section.line, f"node {name} has 'optional' but no 'collect'", "add `collect: SLOT`")
