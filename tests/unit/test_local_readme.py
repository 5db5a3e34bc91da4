"""The embedded cloud's README tells each strict rule as it is, and nothing twice."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from aistratus.local.strict import RULES

TESTS = Path(__file__).parents[1]
README = (TESTS.parent / "aistratus" / "local" / "README.md").read_text("utf-8")


def test_each_rule_has_one_row_that_says_when_it_holds() -> None:
    table = README[README.index("| rule | what |") : README.index("These hold strict or not")]
    rows = re.findall(r"^\| ([a-z0-9-]+)(?: \(\*(\w+)\*\))? \|", table, re.MULTILINE)
    told = [(name, asked) for name, asked in rows if name not in ("rule", "---")]
    assert sorted(told) == sorted((rule.name, rule.asked) for rule in RULES)


def test_each_rule_has_its_test_where_it_says() -> None:
    assert "Each rule's test is `test_<rule>` (with underscores) in `tests/contract`:" in README
    contract = "".join(file.read_text("utf-8") for file in (TESTS / "contract").glob("test_*.py"))
    assert [rule.name for rule in RULES if f"def test_{rule.name.replace('-', '_')}(" not in contract] == []
    assert [name for name in re.findall(r"`(tests/[\w/.]+)`", README) if not (TESTS.parent / name).exists()] == []


def test_no_sentence_stands_there_twice() -> None:
    prose = re.sub(r"^(\||```|- |POST|GET).*$", "", README, flags=re.MULTILINE)
    sentences = [" ".join(one.split()) for one in re.split(r"(?<=[.:;])\s", prose)]
    assert [one for one, times in Counter(sentences).items() if times > 1 and len(one) > 30] == []
