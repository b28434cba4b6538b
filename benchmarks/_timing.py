"""Processes run in turns and timed; results as JSON and as a Markdown table.

Sides are run in the order A B A B …, so that a machine that slows down slows both. The table gives
the median of each side with its range, and the ratio of each round with its range.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hilum.hardware import find_hardware

HERE = Path(__file__).parent
DATA = Path(os.environ.get("HILUM_DATA") or HERE.parents[1] / "shared" / "data")
PEERS = HERE / ".venv-peers" / "bin" / "python"
HILUM = Path(sys.executable).parent / "hilum"
PACKAGES = ("torch", "onnxruntime", "pillow", "simplejpeg", "numpy")
POLL_S = 0.05


@dataclass(frozen=True)
class Done:
    """A process that ended well.

    Attributes
    ----------
    private_mb : float
        The most anonymous memory that it and its children held at once, in MiB: what is theirs
        alone, without the page cache. 0 where it was not watched.
    answer : dict
        The last line of its output, where that is JSON.
    """

    seconds: float
    private_mb: float
    answer: dict[str, Any]


def run(
    command: Sequence[object],
    *,
    environment: Mapping[str, str] | None = None,
    watch_memory: bool = False,
    poll_s: float = POLL_S,
    allowed: Sequence[int] = (0,),
) -> Done:
    """Run a process to its end.

    Raises
    ------
    SystemExit
        With what it printed, if it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=HERE.parent,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    most = [0.0]
    if watch_memory:
        threading.Thread(target=_watch, args=(process, most, poll_s), daemon=True).start()
    out, err = process.communicate()
    seconds = time.perf_counter() - started
    if process.returncode not in allowed:
        sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{err[-3000:]}")
    return Done(seconds, most[0], _last_json(out))


def _watch(process: subprocess.Popen[str], most: list[float], poll_s: float) -> None:
    while process.poll() is None:
        most[0] = max(most[0], sum(_anonymous_mb(pid) for pid in _family(process.pid)))
        time.sleep(poll_s)


def _family(pid: int) -> list[int]:
    """Return a process and all that descend from it (Linux)."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def _anonymous_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


def _last_json(out: str) -> dict[str, Any]:
    lines = out.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return {}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def in_turns(
    sides: Mapping[str, Callable[[int], Any]], rounds: int, *, note: str = ""
) -> dict[str, list[Any]]:
    """Call A, B, A, B, … and return what each gave, a list a side."""
    found: dict[str, list[Any]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            print(f"{note} round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            found[name].append(side(number))
    return found


@dataclass
class Report:
    """What a benchmark found.

    Attributes
    ----------
    rows : list of dict
        what, unit, ours, theirs, ratio, each of these (median, least, greatest); wanted; rounds.
    sides : (str, str)
        Names of the columns of the table.
    """

    title: str
    command: str
    sides: tuple[str, str] = ("hilum", "against")
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def compare(
        self,
        what: str,
        ours: Sequence[float],
        theirs: Sequence[float],
        *,
        unit: str,
        wanted: str = "",
        higher_is_better: bool = False,
    ) -> None:
        """Add a row; the ratio is above 1 where ours is better."""
        pairs = zip(ours, theirs, strict=True)
        ratios = [a / b if higher_is_better else b / a for a, b in pairs]
        self.rows.append(
            {
                "what": what,
                "unit": unit,
                "ours": _spread(ours),
                "theirs": _spread(theirs),
                "ratio": _spread(ratios),
                "wanted": wanted,
                "rounds": len(ours),
            }
        )

    def show(self, json_file: Path | None = None) -> None:
        """Print the JSON and the table."""
        whole = {
            "title": self.title,
            "date": time.strftime("%Y-%m-%d"),
            "command": self.command,
            "machine": machine(),
            "rows": self.rows,
            "facts": self.facts,
        }
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        if json_file is not None:
            json_file.write_text(text + "\n", encoding="utf-8")
        print(text)
        print(
            f"\n{self.title}. {whole['date']}, {machine()['name']}, {machine()['cores']} cores.\n"
        )
        print(f"```console\n$ {self.command}\n```\n")
        if self.rows:
            columns = ("what", *self.sides, "ratio", "at least")
            print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
        for row in self.rows:
            cells = (_cell(row["ours"], row["unit"]), _cell(row["theirs"], row["unit"]))
            ratio = _cell(row["ratio"], "×")
            print(f"| {row['what']} | {' | '.join(cells)} | {ratio} | {row['wanted']} |")


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def _cell(spread: tuple[float, float, float], unit: str) -> str:
    middle, least, most = (f"{value:.3g}" for value in spread)
    return f"{middle} {unit} ({least}–{most})"


def machine() -> dict[str, Any]:
    """Describe what was measured on."""
    hardware = find_hardware()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "name": hardware.name,
        "cores": hardware.n_cores,
        "memory_gib": round(memory, 1),
        "bfloat16": hardware.has_bfloat16,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def parser(about: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    found = argparse.ArgumentParser(description=(about or "").split("\n", maxsplit=1)[0])
    found.add_argument("--rounds", type=int, default=rounds)
    found.add_argument("--json", type=Path, help="write the JSON here too")
    return found


def command_line() -> str:
    return " ".join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])


def itself(name: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command that runs a benchmark of this folder in a process of its own."""
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def need_peers() -> None:
    if not PEERS.exists():
        sys.exit(f"{PEERS} does not exist: make the peers' environment with 'make bench'.")
