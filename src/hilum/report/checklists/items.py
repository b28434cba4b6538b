"""What a checklist is, and what becomes of it when it meets a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One item of a published checklist, in our own few words.

    Attributes
    ----------
    number : str
        Its official number.
    section, topic : str
        Where it belongs in a paper, and what it asks.
    evidence : str or None
        Name of the function that answers it from a run; None where only a person can.
    """

    number: str
    section: str
    topic: str
    evidence: str | None


@dataclass(frozen=True)
class Checklist:
    """A published checklist."""

    key: str
    name: str
    about: str
    source: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Evidence:
    """What a run says to an item.

    Attributes
    ----------
    text : str
        The answer in one line.
    anchor : str
        Id of the place in the report that shows it.
    missing : str
        What a person must still add; '' where the run says it all.
    """

    text: str
    anchor: str
    missing: str = ""
