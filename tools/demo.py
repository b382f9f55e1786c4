"""``make demo``: real handwriting and real text, trained on their own output under several mixes side by side; ends with a report."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "runs" / "demo"
STUDIES = {
    "digits-vae": "a variational autoencoder of handwritten digits",
    "text-ngram": "a bigram model of the Python documentation",
    "digits": "a kernel density estimate of handwritten digits",
}


def main() -> int:
    from studbook.api import create_study
    from studbook.cli.rendering import Bar
    from studbook.errors import StudbookError
    from studbook.report import write_report

    os.chdir(ROOT)
    started = time.monotonic()
    workers = min(2, os.cpu_count() or 1)
    folders = []
    try:
        for name, what in STUDIES.items():
            study = create_study(ROOT / "studies" / f"{name}.toml")
            section = study.plan.passed["study"]
            print(f"\n{what}, {len(study.plan.jobs)} mixes, {section['replicates']} replicates", file=sys.stderr)
            folders.append(study.run(OUT / f"{name}-{study.plan.digest[:8]}", workers=workers, progress=Bar()).folder)
        print("\nwriting the report", file=sys.stderr)
        page = write_report(*folders, out=OUT / "report")
    except StudbookError as error:
        print(f"studbook: error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"\ndone in {time.monotonic() - started:.0f} s. Open the report:\n  {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
