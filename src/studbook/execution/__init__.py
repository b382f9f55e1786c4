"""Where units run: in this process, in worker processes, on Ray. An executor chooses only the place; the results are the same."""

from studbook.execution.checks import MAX_WORKERS
from studbook.execution.create import EXECUTORS, ExecutorName, create_executor
from studbook.execution.local import LocalExecutor
from studbook.execution.on_ray import RayExecutor
from studbook.execution.processes import ProcessExecutor
from studbook.execution.protocols import Executor
from studbook.execution.training_on_ray import RayCluster
from studbook.execution.training_over_http import HttpCluster

__all__ = [
    "EXECUTORS",
    "MAX_WORKERS",
    "Executor",
    "ExecutorName",
    "HttpCluster",
    "LocalExecutor",
    "ProcessExecutor",
    "RayCluster",
    "RayExecutor",
    "create_executor",
]
