"""How many planted flaws the audit finds in chest phantoms, and what it says of clean ones.

    python -m benchmarks.phantoms --seeds 20 --first 100

For each seed a set with every flaw and a clean one of the same people are made in a temporary
folder and audited. Prints a table in Markdown: planted, found, recall with its Wilson interval,
false alarms; then each finding of the clean sets with its severity.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd

from hilum.auditing import audit
from hilum.intervals import wilson
from hilum.phantom import FLAWS, compare, make_phantoms

# A clean set has as many patients as it has, which is no flaw that was planted or not.
SIZE_ALONE = ("few_patients", "small_class")


def run(first: int, n_seeds: int, n_patients: int) -> tuple[pd.DataFrame, Counter[str], float]:
    """Audit all sets; return what was compared, findings of clean sets, seconds an image."""
    compared, alarms = [], Counter[str]()
    elapsed, n_images = 0.0, 0
    for seed in range(first, first + n_seeds):
        with tempfile.TemporaryDirectory() as folder:
            flawed = make_phantoms(Path(folder) / "flawed", n_patients=n_patients, seed=seed)
            clean = make_phantoms(
                Path(folder) / "clean", n_patients=n_patients, seed=seed, flaws=()
            )
            started = time.perf_counter()
            findings = audit(flawed.table).findings
            quiet = audit(clean.table).findings
            elapsed += time.perf_counter() - started
            n_images += flawed.n_images + clean.n_images
        rows = compare(flawed, [finding.to_dict() for finding in findings])
        compared.append(rows.assign(seed=seed))
        print(f"seed {seed}: " + json.dumps({
            row["kind"]: [row["planted"], row["found"], row["false_alarms"]]
            for row in rows.to_dict("records")
        }), flush=True)  # fmt: skip
        alarms.update(
            f"{finding.kind} ({finding.severity})"
            for finding in quiet
            if finding.kind not in SIZE_ALONE
        )
    return pd.concat(compared), alarms, elapsed / n_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=100, help="the first seed")
    parser.add_argument("--patients", type=int, default=150)
    arguments = parser.parse_args()
    compared, alarms, seconds = run(arguments.first, arguments.seeds, arguments.patients)
    print("\n| kind | planted | found | recall (95 % interval) | false alarms |")
    print("|---|---|---|---|---|")
    for kind in FLAWS:
        planted, found, false_alarms = compared[compared["kind"] == kind][
            ["planted", "found", "false_alarms"]
        ].sum()
        low, high = wilson(found / planted, planted, 1.96)
        print(
            f"| `{kind}` | {planted} | {found} | {found / planted:.3f} ({low:.3f} to {high:.3f}) "
            f"| {false_alarms} |"
        )
    found = ", ".join(f"{what}: {n}" for what, n in sorted(alarms.items())) or "none"
    print(f"\nFindings in {arguments.seeds} clean sets: {found}")
    print(f"Audit: {1000 * seconds:.1f} ms an image")


if __name__ == "__main__":
    main()
