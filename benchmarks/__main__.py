"""``make bench``: every benchmark beside its peer in one run, as a table of ratios.

    python -m benchmarks [NAME ...] [--write]

``--write`` puts the table into docs/speed.md; with names, their rows alone are put in the place of the old ones.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

NAMES = (
    "oreilly",
    "zipf",
    "ngram",
    "workers",
    "cost_in_law",
    "prdc",
    "hamming",
    "fingerprints",
    "register",
    "marks",
    "verifying",
    "service",
    "decoding",
    "language_training",
    "loop_cost",
    "federated",
    "protocols",
    "help",
)
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "speed.md"
START, END = "<!-- table: python -m benchmarks --write -->", "<!-- end of table -->"
HEADER = "| work | studbook | peer | ratio | wanted | how |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--write", action="store_true", help="put the table into docs/speed.md")
    parser.add_argument("--rows", type=Path, help="write the rows of one benchmark to this file, and nothing else")
    chosen = parser.parse_args()
    if chosen.rows is not None:
        found = [importlib.import_module(f"benchmarks.{name}").run() for name in chosen.names]
        chosen.rows.write_text(json.dumps([row for each in found for row in (each if isinstance(each, list) else [each])]))
        return
    rows = []
    for name in chosen.names:
        for row in rows_of(name):
            rows.append(row)
            print(line(row), flush=True)
    results = DOCUMENT.parent.parent / "bench-results"
    results.mkdir(exist_ok=True)
    (results / "results.json").write_text(json.dumps(rows, indent=2))
    if chosen.write:
        write(rows, whole=tuple(chosen.names) == NAMES)


def rows_of(name: str) -> list[dict]:
    """A benchmark and its peer, side by side in a process of their own: what ran before leaves memory behind, which changes ratios."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        subprocess.run([sys.executable, "-m", "benchmarks", name, "--rows", str(file)], check=True, stdout=sys.stderr)
        return json.loads(file.read_text())


def line(row: dict) -> str:
    target = row.get("target")
    reach = "" if target is None else f"≥ {target:g} ×" if isinstance(target, int | float) else str(target)
    cells = (row["name"], seconds(row["ours_s"]), seconds(row["peer_s"]), f"**{row['ratio']:,.2f} ×**", reach, row.get("detail", ""))
    return f"| {' | '.join(map(str, cells))} |"


def seconds(value: float) -> str:
    return f"{value:.3g} s"


def write(rows: list[dict], *, whole: bool) -> None:
    """Put rows into the document's table: all of it, or in the place of those that bear the same names, and new ones at its end."""
    text = DOCUMENT.read_text(encoding="utf-8")
    head, rest = text.split(START)
    old, tail = rest.split(END)
    found = {row["name"]: line(row) for row in rows}
    if not whole:
        kept = {each.split(" | ")[0].removeprefix("| "): each for each in old.splitlines() if each.startswith("| ") and each != HEADER}
        found = kept | found
    machine = f"Python {platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores."
    table = "\n".join([HEADER, "|---|---|---|---|---|---|", *found.values()])
    DOCUMENT.write_text(f"{head}{START}\n\n{table}\n\n{machine}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
