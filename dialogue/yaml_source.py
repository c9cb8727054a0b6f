"""Reading a YAML file key by key, noting every fault with its line instead of stopping at the first.

PyYAML's `compose` gives nodes that know their lines; `Section` reads one mapping of them with types. What
is wrong goes into a `Faults` list and the reader answers a harmless value, so that reading goes on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import yaml

__all__ = ["Fault", "Faults", "Located", "Section", "read_yaml", "suggest"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a bot's files, and what to do about it."""

    file: str
    line: int
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what} ({self.mend})"


@dataclass(frozen=True, slots=True)
class Located:
    """A string and the line it stands on."""

    text: str
    line: int


class Faults:
    """The faults found so far in one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Fault] = []

    def add(self, line: int, what: str, mend: str) -> None:
        """Note a fault, once: what is used in several places is read as often."""
        fault = Fault(self.file, line, what, mend)
        if fault not in self.found:
            self.found.append(fault)


def suggest(word: str, known: Iterable[str]) -> str:
    """ "did you mean 'x'?", or the words there are."""
    words = sorted(str(word) for word in known)  # an enum member shows its value
    close = difflib.get_close_matches(word, words, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of {', '.join(words)}" if words else "remove it"


class Section:
    """One mapping of the file. Keys are read by type; those never asked for are faults (`finish`)."""

    def __init__(self, node: yaml.Node, what: str, faults: Faults) -> None:
        self.line = node.start_mark.line + 1
        self.what = what
        self._faults = faults
        self._asked: set[str] = set()
        self._nodes: dict[str, yaml.Node] = {}
        self._lines: dict[str, int] = {}
        self._in_braces = isinstance(node, yaml.MappingNode) and bool(node.flow_style)
        """There a comma in an unquoted text ends it, and what follows is a key without a value."""
        if not isinstance(node, yaml.MappingNode):
            faults.add(self.line, f"{what} is {_kind(node)}, not a mapping", "write `key: value` lines")
            return
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                faults.add(line, f"a key of {what} is {_kind(key)}", "use a plain word as key")
            elif key.value in self._nodes:
                faults.add(
                    line,
                    f"{what} has {key.value!r} twice, first on line {self._lines[key.value]}",
                    "rename or remove one",
                )
            else:
                self._nodes[key.value] = value
                self._lines[key.value] = line

    def __contains__(self, key: str) -> bool:
        return key in self._nodes

    def line_of(self, key: str) -> int:
        """The key's line, or the section's where it is absent."""
        return self._lines.get(key, self.line)

    def require(self, key: str, mend: str) -> None:
        """Note a fault unless the key is there."""
        if key not in self._nodes:
            self._faults.add(self.line, f"{self.what} has no {key!r}", mend)

    def text(self, key: str) -> Located | None:
        """A string; None where absent or no string."""
        node = self._take(key)
        if node is None:
            return None
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            self._wrong(key, node, "a text")
            return None
        return Located(" ".join(node.value.split()), self._lines[key])

    def texts(self, key: str) -> tuple[Located, ...]:
        """A string or a list of strings."""
        found = []
        for node in self.nodes(key):
            if isinstance(node, yaml.ScalarNode) and node.value.strip():
                found.append(Located(node.value.strip(), node.start_mark.line + 1))
            else:
                self._wrong(key, node, "a word or a list of words")
        return tuple(found)

    def nodes(self, key: str) -> tuple[yaml.Node, ...]:
        """The value's items: those of a list, else the value alone; none where absent."""
        node = self._take(key)
        if node is None:
            return ()
        return tuple(node.value) if isinstance(node, yaml.SequenceNode) else (node,)

    def decimal(self, key: str, *, low: float, high: float) -> Decimal | None:
        """A number within limits."""
        node = self._take(key)
        if node is None:
            return None
        try:
            value = Decimal(node.value)
            if low <= value <= high:
                return value
        except (InvalidOperation, TypeError, ValueError):
            pass
        self._wrong(key, node, f"a number from {low:g} to {high:g}")
        return None

    def integer(self, key: str, *, low: int, high: int) -> int | None:
        """A whole number within limits."""
        value = self.decimal(key, low=low, high=high)
        if value is None or value == int(value):
            return None if value is None else int(value)
        self._wrong(key, self._nodes[key], f"a whole number from {low} to {high}")
        return None

    def flag(self, key: str, default: bool) -> bool:
        """`true` or `false`."""
        node = self._take(key)
        if node is None:
            return default
        if isinstance(node, yaml.ScalarNode) and node.value in ("true", "false"):
            return bool(node.value == "true")
        self._wrong(key, node, "true or false")
        return default

    def section(self, key: str) -> Section | None:
        """A mapping, to be read and finished by the caller."""
        node = self._take(key)
        return None if node is None else Section(node, f"{key!r} of {self.what}", self._faults)

    def entries(self) -> Iterator[tuple[str, int, yaml.Node]]:
        """Every (name, line, value), where names are the author's own."""
        self._asked.update(self._nodes)
        for name, node in self._nodes.items():
            yield name, self._lines[name], node

    def finish(self) -> None:
        """Note each key that nothing asked for. Call it last."""
        for key, value in self._nodes.items():
            if key in self._asked:
                continue
            mend = suggest(key, self._asked)
            if self._in_braces and isinstance(value, yaml.ScalarNode) and not value.value:
                mend = f'quote the text before it, which holds a comma: "..., {key}"'
            self._faults.add(self._lines[key], f"{self.what} has an unknown key {key!r}", mend)

    def _take(self, key: str) -> yaml.Node | None:
        self._asked.add(key)
        return self._nodes.get(key)

    def _wrong(self, key: str, node: yaml.Node, wanted: str) -> None:
        self._faults.add(node.start_mark.line + 1, f"{key!r} of {self.what} is {_kind(node)}", f"write {wanted}")


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"{node.value!r:.40}" if node.value else "empty"
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def read_yaml(path: Path, what: str, faults: Faults) -> Section | None:
    """The file's top mapping; None, with the fault noted, where it cannot be read at all."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        faults.add(1, f"{what} is missing", "create the file, or correct its name in bot.yaml")
        return None
    except (OSError, UnicodeDecodeError) as error:
        faults.add(1, f"{what} cannot be read: {error}", "make it a readable UTF-8 file")
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or "not YAML"
        faults.add(
            mark.line + 1 if mark else 1,
            f"not YAML: {problem}",
            "check the indentation; quote texts that hold any of : ? , # [ ] { }",
        )
        return None
    except yaml.YAMLError as error:
        faults.add(1, f"not YAML: {str(error).splitlines()[0]}", "remove characters that are no text")
        return None
    if node is None:
        faults.add(1, f"{what} is empty", "write it; see the bundled bots")
        return None
    return Section(node, what, faults)
