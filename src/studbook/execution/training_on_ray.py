"""Training nodes as actors on Ray."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from studbook.errors import ConfigError, RecordError, StudbookError, WorkerLostError
from studbook.execution.on_ray import RayExecutor
from studbook.execution.threads import BLAS_ENVIRONMENT, single_threaded
from studbook.protocols.cluster import Lost
from studbook.protocols.host import Host
from studbook.protocols.messages import Message, error_message, raise_error
from studbook.protocols.node import Node
from studbook.protocols.recorder import Place
from studbook.protocols.spec import TrainingSpec

_SHARE = 0.01


class RayCluster:
    """One actor a node (``pip install 'studbook[cluster]'``); messages are the same bytes as over HTTP.

    A session that is open already is used and left open; else one is opened and closed with the cluster.

    Args:
        spec: What the nodes are; each actor builds its own from it.
        place: Where nodes may keep records and keys, on the machine that each actor is on; ``None``: they can't commit to their training.
        workers: Processors of a local Ray that is started for the run; ``None`` for all.
        address: Of a running cluster; see ``RayExecutor``.
        start_timeout_s: Longest wait for an actor to be ready.

    Raises:
        ConfigError: An impossible spec, or no such cluster.
        MissingExtraError: Ray isn't installed.
        WorkerLostError: An actor didn't start.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        *,
        place: Place | None = None,
        workers: int | None = None,
        address: str | None = None,
        start_timeout_s: float = 300.0,
    ) -> None:
        self._spec, self._place, self._start_timeout_s = spec, place, start_timeout_s
        self._probes: dict[int, Any] = {}
        self._stack = ExitStack()
        self._stack.enter_context(RayExecutor(workers=workers, address=address).session())
        try:
            self._actors = [_start(spec, index, place) for index in range(spec.nodes)]
            for index in range(spec.nodes):
                self._check(index)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> RayCluster:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def n(self) -> int:
        """See ``Cluster``."""
        return self._spec.nodes

    @functools.cached_property
    def nodes(self) -> Sequence[Node]:
        """See ``Cluster``; built from the spec here, too, when they are first asked for."""
        return self._spec.build()

    def ask(self, requests: Mapping[int, Message], *, timeout_s: float) -> Mapping[int, Message | Lost]:
        """See ``Cluster``."""
        import ray

        bodies = {key: message.encode() for key, message in {id(each): each for each in requests.values()}.items()}
        asked = {i: self._actors[i].answer.remote(bodies[id(requests[i])]) for i in sorted(requests)}
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=timeout_s)
        return {i: _fetch(reference, timeout_s) for i, reference in asked.items()}

    def revive(self, index: int, *, fresh: bool) -> bool:
        """See ``Cluster``."""
        import ray

        if fresh:
            self._probes.pop(index, None)
            ray.kill(self._actors[index])
            self._actors[index] = _start(self._spec, index, self._place)
            self._check(index)
            return True
        if index not in self._probes:  # asked once, and looked at beside the run
            self._probes[index] = self._actors[index].ready.remote()
        if not _done(self._probes[index]):
            return False
        return not isinstance(_fetch(self._probes.pop(index), 0.0), Lost)

    def close(self) -> None:
        """See ``Cluster``."""
        import ray

        actors, self._actors = getattr(self, "_actors", []), []
        if ray.is_initialized():
            for actor in actors:
                ray.kill(actor)
        self._stack.close()

    def _check(self, index: int) -> None:
        """Wait until an actor is ready, or say why it isn't."""
        ready = _fetch(self._actors[index].ready.remote(), self._start_timeout_s)
        if isinstance(ready, Lost):
            raise WorkerLostError(f"node {index} didn't start on Ray, {ready}", hint="see `ray status`")
        raise_error(ready, f"node {index}")


class _Actor:
    """A host behind messages; what goes wrong as it is built is the answer to the first question."""

    def __init__(self, plain: Mapping[str, Any], index: int, place: Mapping[str, str] | None) -> None:
        self._problem: Message | None = None
        with single_threaded():  # before the node's modules are imported, and NumPy with them
            try:
                self._host = Host(TrainingSpec.of(plain).node(index), Place.of(place))
            except StudbookError as error:
                self._problem = error_message(error)

    def ready(self) -> bytes:
        return (self._problem or Message("ready")).encode()

    def answer(self, body: bytes) -> bytes:
        try:
            message = Message.decode(body, "the request")
        except RecordError as error:
            return error_message(error).encode()
        with single_threaded():
            return self._host.answer(message).encode()


def _start(spec: TrainingSpec, index: int, place: Place | None) -> Any:
    import ray

    kind = ray.remote(_Actor).options(num_cpus=_SHARE, max_restarts=0, runtime_env={"env_vars": dict(BLAS_ENVIRONMENT)})
    try:
        return kind.remote(spec.plain(), index, None if place is None else place.plain())
    except ValueError as error:
        raise ConfigError(f"Ray refuses to start node {index}: {error}") from error


def _fetch(reference: Any, timeout_s: float) -> Message | Lost:
    import ray

    try:
        data = ray.get(reference, timeout=max(timeout_s, 0.01) if not _done(reference) else None)
        return Message.decode(data, "its answer")
    except ray.exceptions.GetTimeoutError:
        return Lost("slow", f"no answer within {timeout_s:g} s")
    except ray.exceptions.RayError as error:
        return Lost("down", type(error).__name__)
    except RecordError as error:
        return Lost("garbage", error.message)


def _done(reference: Any) -> bool:
    import ray

    return bool(ray.wait([reference], timeout=0)[0])
