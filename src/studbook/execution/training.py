"""Where the nodes of a training run live, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias, get_args

from studbook.errors import ConfigError
from studbook.execution.threads import single_threaded
from studbook.execution.training_on_ray import RayCluster
from studbook.execution.training_over_http import HttpCluster
from studbook.protocols.cluster import Cluster, InProcess
from studbook.protocols.recorder import Place
from studbook.protocols.spec import TrainingSpec

ClusterName: TypeAlias = Literal["process", "http", "ray"]


@contextmanager
def open_cluster(name: str, spec: TrainingSpec, place: Place | None = None) -> Iterator[Cluster]:
    """A cluster by name: ``process`` (this one), ``http`` (a process each), ``ray`` (an actor each); ended with the block.

    Args:
        name: Which.
        spec: What the nodes are.
        place: Where they may keep records and keys; ``None``: they can't commit to their training.

    Raises:
        ConfigError: No such name, or an impossible spec.
        MissingExtraError: It needs a package that isn't installed.

    Examples:
        >>> from studbook.execution.training import open_cluster
        >>> from studbook.protocols import TrainingSpec
        >>> with open_cluster("process", TrainingSpec("quadratic", nodes=3)) as cluster:
        ...     cluster.n
        3
    """
    if name not in get_args(ClusterName):
        raise ConfigError(f"there is no cluster {name!r}", hint=f"one of {', '.join(get_args(ClusterName))}")
    with single_threaded():  # a server's part is done here, wherever its clients live
        if name == "process":
            yield InProcess(spec.build(), place)
            return
        with HttpCluster(spec, place=place) if name == "http" else RayCluster(spec, place=place) as cluster:
            yield cluster
