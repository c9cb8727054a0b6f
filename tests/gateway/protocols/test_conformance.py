"""The list of conformance tests names tests that there are. What comes of them, their own runs say."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from gateway.calls.dialects import DIALECTS
from tests.gateway.protocols.conformance import REQUIREMENTS, TESTS

pytestmark = pytest.mark.unit


@cache
def functions(file: str) -> frozenset[str]:
    """The tests of a file under tests/."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    defined = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in defined if node.name.startswith("test_"))


@pytest.mark.parametrize("protocol", REQUIREMENTS)
def test_every_requirement_has_tests(protocol: str) -> None:
    for requirement in REQUIREMENTS[protocol]:
        assert requirement.tests, requirement.text
        for named in requirement.tests:
            file, _, name = named.partition("::")
            function = name.partition("[")[0]
            assert any(found.startswith(function) for found in functions(file)), named
            if "[" in name:
                assert function in functions(file), f"{named}: parameters belong to a whole name"


def test_every_dialect_of_other_products_has_requirements() -> None:
    assert {dialect.name for dialect in DIALECTS} - {"native"} == REQUIREMENTS.keys() - {"every dialect"}
