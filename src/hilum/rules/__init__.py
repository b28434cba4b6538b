"""The rules that make a plan from the facts of the data: one table, read from top to bottom.

Each rule sets some settings and says in one sentence why, with the numbers of these very data. A
rule sees the facts and what the rules above it have set. When it sets what, and what stands behind
that, an experiment of benchmarks/README.md, a paper or nothing but custom, are its cases: the rows
of docs/rules.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilum.fingerprint import Fingerprint
from hilum.rules import augmentation, networks, pixels, start, training
from hilum.rules.rule import Choices, Rule

RULES: tuple[Rule, ...] = (
    *start.RULES,
    *pixels.RULES,
    *networks.RULES,
    *training.RULES,
    *augmentation.RULES,
)


def apply_rules(facts: Fingerprint, given: Mapping[str, Any]) -> Choices:
    """Go through the table and collect what the rules choose.

    Parameters
    ----------
    given : mapping
        What the user has set, which the rules take into account.
    """
    found: Choices = {}
    for rule in RULES:
        so_far = {name: value for name, (value, _) in found.items()} | dict(given)
        found |= rule.choose(facts, so_far)
    return found
