"""The plots: matplotlib draws, the page's own colours and fonts dress them.

Each plot becomes inline SVG with its text as text. Colours are drawn as tokens and replaced by CSS
variables, so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Colours that nothing else uses, and the CSS variable that takes the place of each.
INK, MUTED, RULE, ACCENT, BAD, PAPER = (f"#0a0b0{i}" for i in range(6))
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", ACCENT: "accent", BAD: "bad", PAPER: "paper"}

# Keys are Any: matplotlib's stubs want them as literals.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hilum",
    "font.size": 9.0,
    "text.parse_math": False,  # a class may be called "$1 and $2"
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
}

Margins = tuple[float, float, float, float]

# Inches. The squares' margins leave 3.8 by 3.8 and 1.95 by 1.95.
LARGE = (4.5, 4.4)  # one of two beside each other
FLAT = (4.5, 2.75)
TALL = (4.5, 5.5)  # twice FLAT
SMALL = (2.3, 2.3)  # one of many
MARGINS: Margins = (0.6, 0.1, 0.5, 0.1)  # left, right, bottom, top
MARGINS_FLAT: Margins = (0.6, 0.1, 0.5, 0.25)
MARGINS_SMALL: Margins = (0.28, 0.07, 0.24, 0.11)
MARGINS_TRACES: Margins = (0.36, 0.07, 0.24, 0.11)


@dataclass(frozen=True)
class Curve:
    """A curve with a band around it; `low` and `high` are None without one."""

    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None


@dataclass(frozen=True)
class Plot:
    """A drawn figure, ready for the page."""

    svg: Markup
    title: str = ""


def draw_roc(
    name: str,
    title: str,
    test: Curve,
    val: Curve | None,
    point: tuple[float, float] | None,
    *,
    small: bool = False,
    alt: str,
) -> Plot:
    """Draw an ROC curve; `point` is (1 - specificity, sensitivity) where decisions are made."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _square(small)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.6, dashes=(1, 3))
        if val is not None:
            axes.plot(val.x, val.y, color=MUTED, linewidth=0.9, dashes=(4, 2))
        _band(axes, test)
        axes.plot(test.x, test.y, color=ACCENT, linewidth=1.6)
        _mark(axes, point)
        if not small:
            axes.set_xlabel("False alarms (1 − specificity)")
            axes.set_ylabel("Sensitivity")
            _key(axes, val is not None, point is not None, "lower right")
        return Plot(to_svg(figure, name, alt), title)


def draw_precision_recall(
    name: str,
    title: str,
    test: Curve,
    val: Curve | None,
    point: tuple[float, float] | None,
    prevalence: float,
    *,
    small: bool = False,
    alt: str,
) -> Plot:
    """Draw a precision-recall curve; `point` is (sensitivity, precision) where decisions are."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _square(small)
        axes.axhline(prevalence, color=MUTED, linewidth=0.6, dashes=(1, 3))
        if val is not None:
            axes.plot(val.x, val.y, color=MUTED, linewidth=0.9, dashes=(4, 2))
        _band(axes, test)
        axes.plot(test.x, test.y, color=ACCENT, linewidth=1.6)
        _mark(axes, point)
        if not small:
            axes.set_xlabel("Sensitivity (recall)")
            axes.set_ylabel("Precision")
            _key(axes, val is not None, point is not None, "lower left")
        return Plot(to_svg(figure, name, alt), title)


@dataclass(frozen=True)
class Reliability:
    """Stated against observed, by bins, and every stated probability behind them.

    Attributes
    ----------
    stated, observed, low, high : float array of shape (n_bins,)
        Mean probability; share with its interval.
    probs : float array of shape (n_samples,)
    """

    stated: Array
    observed: Array
    low: Array
    high: Array
    probs: Array


def draw_reliability(name: str, bins: Reliability, *, x_label: str, y_label: str, alt: str) -> Plot:
    """Draw observed against stated probability, the number of images below."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=TALL)
        axes = _axes(figure, MARGINS, (0.24, 1.0))
        counts = _axes(figure, MARGINS, (0.0, 0.18))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.6, dashes=(1, 3))
        axes.vlines(bins.stated, bins.low, bins.high, color=ACCENT, linewidth=1.0, alpha=0.6)
        axes.plot(
            bins.stated,
            bins.observed,
            color=ACCENT,
            linewidth=1.2,
            marker="o",
            markersize=4,
            clip_on=False,
        )
        axes.set_ylabel(y_label)
        _unit_axis(axes, "x")
        _unit_axis(axes, "y")
        axes.tick_params(labelbottom=False)
        n, edges = np.histogram(bins.probs, bins=20, range=(0, 1))
        counts.bar(edges[:-1], n, width=0.043, align="edge", color=ACCENT, alpha=0.55)
        counts.set(xlabel=x_label, ylabel="Images")
        _unit_axis(counts, "x")
        counts.locator_params(axis="y", nbins=2)
        return Plot(to_svg(figure, name, alt))


@dataclass(frozen=True)
class Line:
    """One line over epochs, named at its end."""

    label: str
    y: Array
    is_main: bool


def draw_history(
    name: str, epochs: Array, lines: list[Line], kept_epoch: int, *, y_label: str, alt: str
) -> Plot:
    """Draw training curves with the epoch marked whose weights were kept."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=FLAT)
        axes = _axes(figure, MARGINS_FLAT)
        axes.axvline(kept_epoch, color=MUTED, linewidth=0.6, dashes=(1, 3))
        for line in lines:
            axes.plot(
                epochs,
                line.y,
                color=ACCENT if line.is_main else MUTED,
                linewidth=1.6 if line.is_main else 1.1,
                marker="o" if len(epochs) < 3 else None,
                markersize=3,
                label=line.label,
            )
        axes.set(xlabel="Epoch", ylabel=y_label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.annotate(
            "kept",
            (kept_epoch, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color=MUTED,
        )
        if len(lines) > 1:
            axes.legend(frameon=False, fontsize=8, loc="best", labelcolor=INK)
        return Plot(to_svg(figure, name, alt))


Style = Literal["main", "other", "base"]


@dataclass(frozen=True)
class Trace:
    """One of several lines in a plot.

    Attributes
    ----------
    style : str
        'main', 'other' (dashed) or 'base' (dotted).
    curve : Curve
        NaN in `y` breaks the line.
    """

    label: str
    style: Style
    curve: Curve


TRACE_STYLES: dict[str, dict[str, Any]] = {
    "main": {"color": ACCENT, "linewidth": 1.6},
    "other": {"color": MUTED, "linewidth": 1.1, "dashes": (4, 2)},
    "base": {"color": MUTED, "linewidth": 0.8, "dashes": (1, 3)},
}


def draw_traces(
    name: str,
    traces: Sequence[Trace],
    *,
    x_label: str,
    y_label: str,
    alt: str,
    title: str = "",
    y_range: tuple[float, float] | None = None,
    small: bool = False,
) -> Plot:
    """Draw several lines over one axis, with bands where they have them."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SMALL if small else FLAT)
        axes = _axes(figure, MARGINS_TRACES if small else MARGINS_FLAT)
        for trace in traces:
            _band(axes, trace.curve)
            few = np.isfinite(trace.curve.y).sum() < 8
            axes.plot(
                trace.curve.x,
                trace.curve.y,
                marker="o" if few and trace.style == "main" else None,
                markersize=3,
                label=trace.label,
                **TRACE_STYLES[trace.style],
            )
        axes.locator_params(axis="x", nbins=4 if small else 6)
        axes.locator_params(axis="y", nbins=4 if small else 6)
        if y_range is not None:
            axes.set_ylim(*y_range)
        if not small:
            axes.set(xlabel=x_label, ylabel=y_label)
            if len(traces) > 1:
                # Above the axes, where no line can lie under it.
                axes.legend(
                    frameon=False,
                    fontsize=8,
                    loc="lower left",
                    bbox_to_anchor=(0, 1, 1, 0),
                    mode="expand",
                    ncols=len(traces),
                    borderaxespad=0.2,
                    handlelength=1.6,
                    labelcolor=INK,
                )
        return Plot(to_svg(figure, name, alt), title)


def _square(small: bool) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SMALL if small else LARGE)
    axes = _axes(figure, MARGINS_SMALL if small else MARGINS)
    _unit_axis(axes, "x", small=small)
    _unit_axis(axes, "y", small=small)
    return figure, axes


def _axes(figure: Figure, margins: Margins, share: tuple[float, float] = (0.0, 1.0)) -> Axes:
    """Place axes by margins in inches, so that plots beside each other are flush.

    Parameters
    ----------
    share : (bottom, top)
        Part of the height between the margins that the axes take.
    """
    left, right, bottom, top = margins
    width, height = figure.get_size_inches()
    inner = height - bottom - top
    low, high = share
    return figure.add_axes(
        (
            left / width,
            (bottom + low * inner) / height,
            (width - left - right) / width,
            (high - low) * inner / height,
        )
    )


def _unit_axis(axes: Axes, which: str, *, small: bool = False) -> None:
    """Make an axis run from 0 to 1, with a little room for marks at its ends."""
    ticks = (0, 0.5, 1) if small else (0, 0.2, 0.4, 0.6, 0.8, 1)
    labels = [f"{tick:g}" for tick in ticks]
    if which == "x":
        axes.set_xlim(-0.01, 1.01)
        axes.set_xticks(ticks, labels)
    else:
        axes.set_ylim(-0.01, 1.01)
        axes.set_yticks(ticks, labels)


def _band(axes: Axes, curve: Curve) -> None:
    if curve.low is not None and curve.high is not None:
        axes.fill_between(curve.x, curve.low, curve.high, color=ACCENT, alpha=0.16, linewidth=0)


def _mark(axes: Axes, point: tuple[float, float] | None) -> None:
    if point is not None:
        axes.plot(
            *point,
            marker="o",
            markersize=6.5,
            color=BAD,
            markeredgecolor=PAPER,
            markeredgewidth=1.2,
            zorder=5,
            clip_on=False,
        )


def _key(
    axes: Axes, has_val: bool, has_point: bool, place: Literal["lower right", "lower left"]
) -> None:
    """Add a key made of its own handles, since lines are drawn in the order of layers."""
    handles = [Line2D([], [], color=ACCENT, linewidth=1.6, label="test")]
    if has_val:
        handles.append(
            Line2D([], [], color=MUTED, linewidth=0.9, dashes=(4, 2), label="validation")
        )
    if has_point:
        handles.append(
            Line2D(
                [], [], color=BAD, marker="o", linewidth=0, markersize=6, label="where it decides"
            )
        )
    axes.legend(handles=handles, frameon=False, fontsize=8, loc=place, labelcolor=INK)


def to_svg(figure: Figure, name: str, alt: str) -> Markup:
    """Turn a figure into inline SVG for the page.

    Parameters
    ----------
    name : str
        Unique on the page; keeps the ids of one drawing apart from those of another.
    alt : str
        What the figure shows, for those who do not see it.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that matplotlib's font lacks is drawn by the reader's browser all the same.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    body = text[text.index(">") + 1 :]
    view_box = re.search(r'viewBox="([^"]+)"', text)
    assert view_box is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # A style sheet inside inline SVG would rule the whole page.
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = _local_ids(body.replace("xlink:href", "href"), name)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    for token, variable in VARIABLES.items():
        body = body.replace(token, f"var(--{variable})")
    head = f'<svg class="plot" viewBox="{view_box[1]}" role="img" aria-label="{escape(alt)}">'
    return Markup(head + re.sub(r"\n\s*", "\n", body).strip())


def _local_ids(body: str, name: str) -> str:
    """Keep the ids that are used, under names of this figure, and drop the rest."""
    used = set(re.findall(r"#([\w-]+)", body))

    def rename(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    body = re.sub(r'\sid="([^"]+)"', rename, body)
    return re.sub(r'(url\(|href=")#([\w-]+)', rf"\1#{name}-\2", body)
