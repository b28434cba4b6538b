"""How long `hilum --help` takes beside a Python that does nothing.

python -m benchmarks.startup
"""

from __future__ import annotations

import statistics
import sys

from benchmarks._timing import HILUM, Report, command_line, in_turns, parser, run


def main() -> None:
    arguments = parser(__doc__, rounds=15).parse_args()
    found = in_turns(
        {
            "hilum --help": lambda _: run([HILUM, "--help"]).seconds,
            "python -c pass": lambda _: run([sys.executable, "-c", "pass"]).seconds,
        },
        arguments.rounds,
    )
    helps, nothing = found.values()
    added = sorted(a - b for a, b in zip(helps, nothing, strict=True))
    report = Report("Start", command_line(), ("hilum --help", "python -c pass"))
    report.compare("start", helps, nothing, unit="s", wanted="+0.25 s at most")
    report.facts = {"added_s": {"median": statistics.median(added), "range": (added[0], added[-1])}}
    report.show(arguments.json)
    print(f"\nAdded: {statistics.median(added):.3f} s ({added[0]:.3f}–{added[-1]:.3f}).")


if __name__ == "__main__":
    main()
