"""Figures as points with whiskers on a common axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hilum.report import words
from hilum.report.facts import Estimate


@dataclass(frozen=True)
class IntervalRow:
    """A figure as text and as a point with whiskers; positions in percent of the scale."""

    name: str
    text: str
    bounds: str
    n: str
    low: float | None = None
    point: float | None = None
    high: float | None = None
    is_known: bool = True


@dataclass(frozen=True)
class Scale:
    """The common axis of some interval rows."""

    low: float

    def place(self, value: float | None) -> float | None:
        """Put a value of [low, 1] on the axis, in percent of its length."""
        if value is None:
            return None
        return round(100 * min(1.0, max(0.0, (value - self.low) / (1 - self.low))), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        step = 0.1 if self.low >= 0.5 else 0.2 if self.low >= 0.2 else 0.25
        n_steps = round((1 - self.low) / step)
        values = [1 - step * i for i in range(n_steps, -1, -1)]
        return [(self.place(value) or 0.0, f"{value:g}") for value in values]


def common_scale(figures: Sequence[Estimate]) -> Scale:
    """Choose the lowest value of an axis to 1 that shows every interval."""
    lows = [low for f in figures for low in (f.ci_low, f.value) if low is not None]
    least = min(lows, default=0.0)
    return Scale(next(start for start in (0.5, 0.2, 0.0) if least >= start or start == 0.0))


def interval_row(term: words.Term, figure: Estimate, scale: Scale) -> IntervalRow:
    low, point, high = (
        scale.place(value) if term.rises else None
        for value in (figure.ci_low, figure.value, figure.ci_high)
    )
    return IntervalRow(
        term.name,
        words.estimate(figure, percent=term.percent),
        words.interval(figure, percent=term.percent),
        words.count(figure.n),
        low,
        point,
        high,
        figure.value is not None,
    )
