from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilum.calibration import softmax
from hilum.calls import Target, called_classes, decide, over_shares, shares_in_words

TWO, MANY = Target("classes", 1), Target("classes")
GRADES, SEVERAL = Target("ordinal"), Target("multilabel")


def test_what_is_called() -> None:
    probs = np.array([[0.6, 0.4], [0.8, 0.2]])
    assert decide(probs, ("a", "b"), TWO, [0.4]) == ["b", "a"]
    assert decide(probs, ("a", "b"), Target("classes", 0), [0.7]) == ["b", "a"]
    assert decide(probs, ("a", "b"), SEVERAL, [0.5, 0.3]) == ["a|b", "a"]
    assert decide(probs, ("a", "b"), SEVERAL, [0.9, 0.9]) == ["none", "none"]
    three = np.array([[0.4, 0.3, 0.3]])
    assert decide(three, ("x", "y", "z"), MANY, None) == ["x"]
    assert decide(three, ("x", "y", "z"), GRADES, None) == ["y"]


def test_a_rare_class_is_called_at_a_low_probability() -> None:
    probs = np.array([[0.75, 0.05, 0.2], [0.97, 0.02, 0.01]])
    shares = (0.9, 0.08, 0.02)
    assert decide(probs, ("x", "y", "z"), Target("classes", None, shares), None) == ["z", "x"]
    assert decide(probs, ("x", "y", "z"), GRADES, None) == ["x", "x"]


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=3, max_size=6))
def test_over_shares_is_bayes_with_even_priors(pairs: list[tuple[int, int]]) -> None:
    """By fractions: of so many images of each class, weighed so that all classes count alike."""
    found = np.array([[p for p, _ in pairs]]) / sum(p for p, _ in pairs)
    shares = [s / sum(s for _, s in pairs) for _, s in pairs]
    even = [Fraction(p, s) for p, s in pairs]
    expected = [float(part / sum(even)) for part in even]
    assert over_shares(found, shares)[0] == pytest.approx(expected)
    assert over_shares(found, None) is found


def test_shares_in_words() -> None:
    assert shares_in_words(("a", "b", "c"), (0.9, 0.08, 0.02)) == "c 0.02, b 0.08, a 0.9"
    many = shares_in_words([f"c{k}" for k in range(9)], [(k + 1) / 45 for k in range(9)])
    assert many.endswith("c5 0.13 and 3 more frequent")


def test_what_weighted_logits_lead_with_is_called() -> None:
    rng = np.random.default_rng(0)
    logits, shares = rng.normal(size=(200, 4)) * 3, (0.7, 0.2, 0.07, 0.03)
    natural = softmax(logits + np.log(shares))
    called = called_classes(natural, Target("classes", None, shares), None)
    np.testing.assert_array_equal(called, logits.argmax(axis=1))
    assert (natural.argmax(axis=1) != called).any()
