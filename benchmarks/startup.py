"""How long `hilum --help` takes beside a Python that does nothing.

python -m benchmarks.startup
"""

from __future__ import annotations

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
    report = Report("Start", command_line())
    report.compare("hilum --help against python -c pass", helps, nothing, unit="s")
    added = sorted(a - b for a, b in zip(helps, nothing, strict=True))
    report.facts = {"added_s": {"median": added[len(added) // 2], "range": [added[0], added[-1]]}}
    report.compare("added", added, [0.25] * len(added), unit="s", wanted="at most 0.25 s")
    report.show(arguments.json)


if __name__ == "__main__":
    main()
