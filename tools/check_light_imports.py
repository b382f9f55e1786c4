"""Import every light module in an environment that has NumPy and nothing else.

A module that isn't light is a leaf: it is listed here, and nothing light imports it at import time.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src"
LEAVES = {
    "studbook.__main__": "Typer",
    "studbook.cli": "Typer",
    "studbook.report": "Polars",
    "studbook.testing": "pytest",
    "studbook.learners._count_kernels": "Numba",
    "studbook.learners._ngram_decoding": "Numba",
    "studbook.learners._ngram_kernels": "Numba",
    "studbook.neural": "PyTorch, but for the modules in LIGHT",
    "studbook.fingerprints._image_kernels": "Numba",
    "studbook.fingerprints._text_kernels": "Numba",
    "studbook.fingerprints._text_vectors": "Numba",
    "studbook.hamming._bit_kernels": "Numba",
    "studbook.hamming._bit_vectors": "Numba",
    "studbook.hamming._cuda": "PyTorch",
    "studbook.hamming._plane_kernels": "Numba",
    "studbook.learners._ngram_marking": "Numba",
    "studbook.marks._kernels": "Numba",
    "studbook.marks.marking": "PyTorch",
    "studbook.metrics._neighbour_kernels": "Numba",
    "studbook.metrics.text_kernels": "Numba",
    "studbook.planning._support_kernels": "Numba",
    "studbook.protocols.diagnose_networks": "PyTorch",
    "studbook.protocols.diagnose_training": "PyTorch",
    "studbook.registry.counting": "SQLAlchemy",
    "studbook.registry.export": "SQLAlchemy",
    "studbook.registry.indexes": "SQLAlchemy",
    "studbook.registry.lineage": "SQLAlchemy",
    "studbook.registry.opening": "SQLAlchemy",
    "studbook.registry.reading": "SQLAlchemy",
    "studbook.registry.schema": "SQLAlchemy",
    "studbook.registry.searching": "SQLAlchemy",
    "studbook.registry.signed": "SQLAlchemy",
    "studbook.registry.store": "SQLAlchemy",
    "studbook.registry.store_postgres": "SQLAlchemy",
    "studbook.registry.store_sqlite": "SQLAlchemy",
    "studbook.registry.verify": "SQLAlchemy",
    "studbook.registry.versions": "SQLAlchemy",
    "studbook.registry.writing": "SQLAlchemy",
    "studbook.registry._band_kernels": "Numba",
    "studbook.registry._scan_kernels": "Numba",
    "studbook.screening.on_datatrove": "datatrove",
    "studbook.verification._noise_kernels": "Numba",
    "studbook.verification.billion": "PyTorch",
    "studbook.verification.billion_hashes": "PyTorch",
    "studbook.verification.calibrate": "PyTorch",
    "studbook.verification.claimant": "PyTorch",
    "studbook.verification.consensus": "PyTorch",
    "studbook.verification.language": "PyTorch",
    "studbook.verification.measure": "PyTorch",
    "studbook.verification.pictures": "PyTorch",
    "studbook.verification.quantised": "PyTorch",
    "studbook.verification.radii": "PyTorch",
    "studbook.verification.workflow": "PyTorch",
    "studbook.web.answers": "FastAPI",
    "studbook.web.register_forms": "pydantic",
    "studbook.web.register_service": "FastAPI",
    "studbook.web.schema": "pydantic",
    "studbook.web.verifier_service": "FastAPI",
}
LIGHT = {"studbook.neural", "studbook.neural.options"}


def main() -> int:
    sys.path.insert(0, str(ROOT))
    names = ["studbook", *(module.name for module in pkgutil.walk_packages([str(ROOT / "studbook")], "studbook."))]
    light = [name for name in names if name in LIGHT or not any(name == leaf or name.startswith(leaf + ".") for leaf in LEAVES)]
    failures = 0
    for name in light:
        try:
            importlib.import_module(name)
        except ImportError as error:
            failures += 1
            print(f"{name} isn't light: {error}")
    print(f"{len(light) - failures} of {len(light)} light modules import with NumPy alone")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
