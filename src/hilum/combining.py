"""Intervals of differences and ratios of figures that have intervals of their own.

The method of variance estimates recovery (Zou and Donner 2008; Donner and Zou 2012): each bound is
found from how far the two figures lie from their own bounds, and from how they go together. It
keeps what is good in the intervals of the parts, such as bounds of shares of 0 and 1.
"""

from __future__ import annotations

import math

from hilum.intervals import Interval

METHOD = "from the intervals of its parts, correlation by patients"


def difference(first: float, a: Interval, second: float, b: Interval, together: float) -> Interval:
    """Interval of `first` - `second`, whose correlation is `together`."""
    if math.isnan(a.ci_low) or math.isnan(b.ci_low):
        return Interval.missing(a.reason or b.reason)
    value = first - second
    low = _apart(first - a.ci_low, b.ci_high - second, together)
    high = _apart(a.ci_high - first, second - b.ci_low, together)
    return Interval(value - low, value + high, METHOD)


def ratio(above: float, a: Interval, below: float, b: Interval, together: float) -> Interval:
    """Interval of `above` / `below`, both at least 0; the upper bound may be infinite.

    The bounds are the ratios R at which the difference `above` - R · `below` has a bound at 0.
    """
    if math.isnan(a.ci_low) or math.isnan(b.ci_low):
        return Interval.missing(a.reason or b.reason)
    low = _root(above, above - a.ci_low, below, b.ci_high - below, together, upper=False)
    high = _root(above, a.ci_high - above, below, below - b.ci_low, together, upper=True)
    return Interval(low, high, METHOD)


def _apart(d: float, e: float, together: float) -> float:
    """Root of the variance of a difference, from distances to bounds."""
    return math.sqrt(max(0.0, d * d + e * e - 2 * together * d * e))


def _root(above: float, d: float, below: float, e: float, together: float, *, upper: bool) -> float:
    """Solve (above - R·below)² = d² + R²e² - 2·together·R·d·e for the lower or upper R."""
    a, b, c = below**2 - e**2, above * below - together * d * e, above**2 - d**2
    spread = math.sqrt(max(0.0, b * b - a * c))
    if not upper:
        # c / (b + …) is the lower root also where a is 0 or less.
        return max(0.0, c / (b + spread)) if b + spread > 0 else 0.0
    return (b + spread) / a if a > 1e-15 else math.inf
