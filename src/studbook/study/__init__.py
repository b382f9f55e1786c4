"""Config, plan, run, resume, and the catalog of names."""

from studbook.study.config import Cell, apply_overrides, expand, read_study_file
from studbook.study.folder import RunFolder
from studbook.study.paths import with_absolute_paths
from studbook.study.plan import Plan, prepare
from studbook.study.runner import Progress, run_plan

__all__ = [
    "Cell",
    "Plan",
    "Progress",
    "RunFolder",
    "apply_overrides",
    "expand",
    "prepare",
    "read_study_file",
    "run_plan",
    "with_absolute_paths",
]
