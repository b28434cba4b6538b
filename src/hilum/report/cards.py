"""Model card and data card: what a run knows of its model and data, and blanks for the rest.

Both are shown in the report and written as Markdown, the model card into the model folder, so that
it travels with the model. A blank is a question that only a person can answer; none is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hilum.dataset import RESERVED
from hilum.report import methods, network_words, words
from hilum.report.facts import (
    SPLIT_NAMES,
    Estimate,
    RunFacts,
    figures_on,
    main_figures,
    n_of_equal_name,
)
from hilum.report.kinds import title_of
from hilum.report.reasons import judge

BLANK = "[to be filled in by a person]"
CLOSING = "Written by Hilum from the run folder; see report.html for the evidence."


@dataclass(frozen=True)
class Entry:
    """One line of a card; `text` is '' where a person must fill it in."""

    name: str
    text: str = ""


@dataclass(frozen=True)
class Part:
    heading: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Card:
    """A card, part by part."""

    title: str
    file: str
    parts: tuple[Part, ...]

    @property
    def n_blank(self) -> int:
        return sum(not entry.text for part in self.parts for entry in part.entries)


def model_card(facts: RunFacts) -> Card:
    """Describe the model: what it is, how good, where it fails, what it must not be used for."""
    return Card(
        "Model card",
        "model/README.md",
        (
            Part("The model", _model(facts)),
            Part(
                "Use",
                (
                    Entry("Intended use"),
                    Entry("Intended users"),
                    Entry("Patients it is meant for"),
                    Entry("Place in the workflow"),
                    Entry("Not for", "Diagnosis or treatment: for research, not a medical device"),
                ),
            ),
            Part("Learnt from", _learnt_from(facts)),
            Part("How good it is", _figures(facts)),
            Part("What to distrust", _limits(facts)),
            Part(
                "Ethics and contact",
                (
                    Entry("Ethical considerations"),
                    Entry("Fairness between groups", _fairness(facts)),
                    Entry("Owner and contact"),
                    Entry("Licence of the model"),
                    Entry("How to cite"),
                ),
            ),
        ),
    )


def data_card(facts: RunFacts) -> Card:
    """Describe the data: what they are, how they were split, what is wrong with them."""
    return Card(
        "Data card",
        "data_card.md",
        (
            Part(
                "The data",
                (
                    Entry("Name and place", str(facts.run["data"]["path"])),
                    Entry("SHA-256", str(facts.run["data"]["sha256"])),
                    Entry("Files", _files(facts)),
                    Entry("Formats and sizes", formats(facts)),
                    Entry("Columns", _columns(facts)),
                ),
            ),
            Part(
                "Where they come from",
                (
                    Entry("Hospitals and countries"),
                    Entry("Dates"),
                    Entry("Who is in them: how people were chosen"),
                    Entry("Age and sex", _demographics(facts)),
                    Entry("Scanners and protocols"),
                    Entry("Consent and ethical approval"),
                    Entry("De-identification"),
                    Entry("Licence and terms of use"),
                ),
            ),
            Part(
                "Labels",
                (
                    Entry(words.capitalised(words.nouns(facts.target)[1]), _classes(facts)),
                    Entry("How the truth was found"),
                    Entry("Who annotated, with what training"),
                    Entry("Agreement between annotators"),
                ),
            ),
            Part(
                "Patients and splits",
                (
                    Entry("Patients", str(facts.run["patients"]["description"])),
                    Entry("Splits", _splits(facts)),
                    Entry("How they were made", " ".join(map(str, facts.run["splits"]["reasons"]))),
                ),
            ),
            Part("What the audit found", _audit(facts)),
        ),
    )


def to_markdown(card: Card, subject: str, before: str = "") -> str:
    """Write a card as Markdown.

    Parameters
    ----------
    subject : str
        What the card describes, for its title.
    before : str
        The card as it lies there: what a person has filled in is kept.
    """
    filled = _filled_in(card, before)
    lines = [f"# {card.title}: {_plain(subject)}", ""]
    for part in card.parts:
        lines += [f"## {part.heading}", ""]
        for entry in part.entries:
            name = _plain(entry.name)
            text = _plain(entry.text) or filled.get((part.heading, name), BLANK)
            lines.append(f"- **{name}**: {text}")
        lines.append("")
    lines.append(CLOSING)
    return "\n".join(lines) + "\n"


def _filled_in(card: Card, before: str) -> dict[tuple[str, str], str]:
    """Read what stands in the entries of a card as it lies there, by heading and name.

    Whatever is no heading and no entry of this card belongs to the entry before: a person may write
    several lines.
    """
    known = {(part.heading, _plain(entry.name)) for part in card.parts for entry in part.entries}
    headings = {heading for heading, _ in known}
    found: dict[tuple[str, str], str] = {}
    heading, last = "", None
    for line in before.splitlines():
        entry = re.match(r"[-*] \*\*(.*?)\*\*:(.*)", line)
        if line.removeprefix("## ") in headings and line.startswith("## "):
            heading, last = line.removeprefix("## "), None
        elif line == CLOSING:
            last = None
        elif entry and (heading, entry[1]) in known:
            last = (heading, entry[1])
            found[last] = entry[2].strip()
        elif last:
            found[last] += f"\n{line}"
    return {key: text.strip() for key, text in found.items() if text.strip() not in ("", BLANK)}


def _plain(text: str) -> str:
    """Take what would be Markdown or HTML in a name from the data for plain text."""
    escaped = "".join(f"\\{sign}" if sign in "\\`*_[]<>#|" else sign for sign in text)
    return " ".join(escaped.split())


def _model(facts: RunFacts) -> tuple[Entry, ...]:
    return (
        Entry("Task", f"{words.capitalised(facts.task)}, on single images"),
        Entry("Input", network_words.preprocessing(facts)),
        Entry("Output", _output(facts)),
        Entry("Network", network_words.network(facts)),
        *_weights(facts),
        Entry("Parameters", words.count(int(facts.run["n_parameters"]))),
        Entry("Made", f"{words.day(str(facts.run['finished']))}, by Hilum {facts.run['hilum']}"),
        Entry("Files", _model_files(facts)),
    )


def _model_files(facts: RunFacts) -> str:
    """Name the files of the model folder, and what of patients is in them."""
    text = "model.json, weights.safetensors, model.onnx; data only, no code"
    if (facts.folder / "model" / "references.safetensors").exists():
        text += (
            "; references.safetensors, made from training images (their features and 16×16 "
            "pictures): to be kept as the images are"
        )
    return text


def _weights(facts: RunFacts) -> tuple[Entry, ...]:
    start = network_words.pretrained(facts)
    return () if start is None else (Entry("Began with", network_words.beginnings(facts, start)),)


def _output(facts: RunFacts) -> str:
    what = {"multilabel": "label by itself", "ordinal": "grade"}.get(facts.target, "class")
    return f"A probability for each {what}. {methods.threshold(facts)}"


def _learnt_from(facts: RunFacts) -> tuple[Entry, ...]:
    return (
        Entry("Data", f"SHA-256 {facts.run['data']['sha256']}; see the data card"),
        Entry("Splits", _splits(facts)),
        Entry("Training", network_words.training(facts)),
        Entry("Augmentation", network_words.augmentation(facts)),
    )


def _figures(facts: RunFacts) -> tuple[Entry, ...]:
    test = facts.metrics["test"]
    entries = [
        Entry(
            "Tested on",
            f"{words.plural(int(test['n']), 'image')}{words.of_people(facts.n_patients('test'))}, "
            f"opened {words.times(len(facts.openings))}",
        )
    ]
    for key in (*main_figures(facts), "brier", "ece"):
        term, figure = words.BY_KEY[key], Estimate.of(test, key)
        entries.append(Entry(term.name, words.with_interval(figure, percent=term.percent)))
    if facts.is_multilabel:
        entries += [Entry(name, _of_label(facts.about(name))) for name in facts.class_names]
    entries.append(Entry("Intervals", f"95{words.THIN}%, of chance alone; not of other hospitals"))
    term = words.BY_KEY[main_figures(facts)[0]]
    for name, found in facts.external.items():
        figure = Estimate.of(dict(figures_on(found)), term.key)
        alike = words.of_equal_name(n_of_equal_name(found))
        text = f"{term.in_text} {words.with_interval(figure, percent=False)}"
        entries.append(Entry(f"On {name}", f"{text}; {alike}" if alike else text))
    return tuple(entries)


def _of_label(facts: RunFacts) -> str:
    """Give the main figures of one label in a line."""
    test = facts.metrics["test"]
    n_with = int(test["classes"][facts.positive_class]["n"])
    figures = [
        f"{term.in_text} {words.with_interval(Estimate.of(test, term.key), percent=term.percent)}"
        for term in (words.BY_KEY[key] for key in ("auroc", "sensitivity", "specificity"))
    ]
    return f"In {n_with:,} of {words.plural(int(test['n']), 'test image')}: {'; '.join(figures)}"


def _limits(facts: RunFacts) -> tuple[Entry, ...]:
    reasons = judge(facts).reasons
    if not reasons:
        return (Entry("Reasons", "None of the checks found one"),)
    return tuple(Entry(reason.title, reason.text) for reason in reasons)


def _fairness(facts: RunFacts) -> str:
    columns = sorted(facts.subgroup_columns)
    if not columns:
        return ""
    return f"Figures by {words.join(columns)} are in the report; what they mean is for a person"


def _files(facts: RunFacts) -> str:
    data = facts.run["data"]
    return (
        f"{words.plural(int(data['n_files']), 'file')}, {int(data['n_excluded']):,} left out, "
        f"{int(data['n_samples']):,} used"
    )


def formats(facts: RunFacts) -> str:
    """Say which formats and sizes the readable files have."""
    read = facts.samples[~facts.samples["excluded"]]
    if "format" not in read or "height" not in read or read.empty:
        return ""
    kinds = [f"{name or 'unknown'} ({n:,})" for name, n in read["format"].value_counts().items()]
    sizes = (read["height"] + " × " + read["width"]).value_counts()
    shown = f"{sizes.index[0]} pixels" if len(sizes) == 1 else f"{len(sizes):,} sizes"
    return f"{words.join(kinds)}; {shown}"


def _columns(facts: RunFacts) -> str:
    found = [str(name) for name in facts.samples.columns if name not in RESERVED]
    return words.join(found) if found else "None beside labels, patients and splits"


def _demographics(facts: RunFacts) -> str:
    """Summarise age and sex where the data have such columns."""
    parts = []
    by_name = {str(name).lower(): str(name) for name in facts.samples.columns}
    if "sex" in by_name:
        known = facts.samples[by_name["sex"]]
        counts = known[known != ""].value_counts()
        parts.append(", ".join(f"{name} {n:,}" for name, n in counts.items()))
        parts.append(f"sex unknown {int((known == '').sum()):,}")
    if "age" in by_name:
        ages = [float(age) for age in facts.samples[by_name["age"]] if _is_number(age)]
        if ages:
            parts.append(f"age {min(ages):g} to {max(ages):g}, known of {len(ages):,}")
    return f"{'; '.join(part for part in parts if part)} (images)" if any(parts) else ""


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _classes(facts: RunFacts) -> str:
    counts = facts.run["splits"]["counts"].values()
    return "; ".join(
        f"{name}: {words.plural(sum(int(c['classes'].get(name, 0)) for c in counts), 'image')}"
        for name in facts.class_names
    )


def _splits(facts: RunFacts) -> str:
    counts = facts.run["splits"]["counts"]
    return "; ".join(
        f"{name}: {words.plural(int(counts[split]['n']), 'image')}"
        f"{words.of_people(counts[split]['n_patients'])}"
        for split, name in SPLIT_NAMES.items()
    )


def _audit(facts: RunFacts) -> tuple[Entry, ...]:
    if not facts.findings:
        return (Entry("Findings", "None"),)
    return tuple(
        Entry(
            f"{title_of(finding)} ({finding['severity']})",
            str(finding["message"]),
        )
        for finding in facts.findings
    )
