"""The pictures of the guides on training: spread by protocol, accuracy by size of slice, attacks against defences.

python tools/training_pictures.py spread|select|attacks --out docs/images
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from studbook.files import write_file
from studbook.protocols import Gossip, Independent, InProcess, Local, Optimiser, Plan, Protocol, Synchronised, TrainingSpec, ring, train
from studbook.protocols.contest_digits import Plan as ContestPlan
from studbook.protocols.contest_digits import contest_rows
from studbook.protocols.select_study import read_select_study, run_select_study
from studbook.protocols.writing import write_run
from studbook.report.figure import Figure
from studbook.report.one_page import picture
from studbook.report.training_attacks import attacks_figure
from studbook.report.training_figures import training_figures
from studbook.report.training_folders import load_training
from studbook.report.training_select import select_figures

ROOT = Path(__file__).resolve().parent.parent
PROTOCOLS: tuple[Protocol, ...] = (Independent(), Local(50), Gossip(ring(8)), Synchronised())


def spread() -> Figure:
    """Eight nodes on the digits, 200 steps, as ``studbook training run`` trains them by default."""
    spec = TrainingSpec("digits-softmax", nodes=8, batch=32, optimiser=Optimiser(rate=0.1))
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder, str(i)) for i, _ in enumerate(PROTOCOLS)]
        for out, protocol in zip(folders, PROTOCOLS, strict=True):
            write_run(train(InProcess(spec.build()), protocol, Plan(200)), out)
        return training_figures(load_training(folders))[0]


def select() -> Figure:
    """``studbook training select studies/federated-select.toml``."""
    study = read_select_study(ROOT / "studies" / "federated-select.toml")
    return select_figures(study, run_select_study(study))[0]


def attacks() -> Figure:
    """``studbook training attacks --seeds 5``."""
    plan = ContestPlan(seeds=5)
    return attacks_figure(plan, contest_rows(plan))


PICTURES: dict[str, Callable[[], Figure]] = {"spread": spread, "select": select, "attacks": attacks}


def small(svg: str) -> bytes:
    """One decimal a coordinate is enough for a picture (numbers in words have fewer than four); what is read out is the page's text."""
    rounded = re.sub(r"\d+\.\d{4,}", lambda found: f"{float(found[0]):.1f}", svg)
    return re.sub(r' (?:aria-[a-z]+|role)="[^"]*"', "", rounded).encode()


def main() -> None:
    """Make one picture, and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", choices=PICTURES)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    asked, began = parser.parse_args(), time.process_time()
    file = asked.out / f"training-{asked.picture}.svg"
    write_file(file, small(picture(PICTURES[asked.picture]())))
    print(f"{file}: {file.stat().st_size:,} bytes, {time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
