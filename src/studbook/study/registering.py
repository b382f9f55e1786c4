"""A study's own samples in a register, so that they are found again: each with its model, and that with what it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studbook.arrays import Kind
from studbook.curation import register_batch
from studbook.errors import ConfigError

if TYPE_CHECKING:
    from studbook.recursion import Generation
    from studbook.registry import Register
    from studbook.study.plan import Plan, Unit


@dataclass(frozen=True, slots=True)
class Registering:
    """Where units enter what they generate.

    Attributes:
        location: The register: a file, or ``postgresql://…``. Workers on other machines need a server.
        study: What entries' sources begin with, ``study:NAME-DIGEST``.
        shown: The location without a password.
    """

    location: str
    study: str
    shown: str

    @contextmanager
    def open(self, unit: Unit) -> Iterator[UnitRegister]:
        """The register, for one unit."""
        from studbook.registry import Register

        with Register.open(self.location) as register:
            yield UnitRegister(register, f"{self.study}/{unit.job.cell.index}/{unit.start}", f"sha256:{unit.job.data_digest}")


@dataclass(frozen=True, slots=True, eq=False)
class UnitRegister:
    """An open register, and what one replicate's entries are called in it.

    Attributes:
        register: The register.
        source: ``study:NAME-DIGEST/cell/replicate``.
        data: Digest of the data set.
    """

    register: Register
    source: str
    data: str

    def add(self, generation: Generation) -> None:
        """Enter a generation's sample and descent; what is there already is not entered twice.

        Raises:
            RegisterError: The register refuses it.
            RegisterUnavailableError: It went away; the study can be resumed.
        """
        source = f"{self.source}/{generation.index}"
        model, training = f"{source}/model", f"{source}/training"
        register_batch(self.register, generation.sample, model=model, source=source)
        self.register.link(model, training, "trained-on")
        self.register.link(training, self.data, "derived-from")
        if generation.index:
            self.register.link(training, f"{self.source}/{generation.index - 1}/model", "generated-by")


def prepare_registering(plan: Plan, location: str, old: Mapping[str, Any] | None) -> Registering:
    """Check, before anything is run, that a study's samples can be registered there; makes the register where there is none.

    Args:
        plan: The study.
        location: The register.
        old: The manifest of the run that is gone on with.

    Raises:
        ConfigError: Samples that aren't drawn, or are neither texts nor pictures; or units that finished without this register.
        RegisterError: It is no register.
    """
    for job in plan.jobs:
        kind = plan.datasets[job.data_digest].space.kind
        if kind not in {Kind.TEXT, Kind.IMAGES}:
            raise ConfigError(f"a register holds texts and pictures; {job.cell.label} generates {kind.value}", hint="leave --register out")
    from studbook.registry import Register

    with Register.open(location, create=True) as register:
        shown = register.location
    if old is not None and old.get("register") != shown and old["units"]["done"]:
        was = f"with the register {old['register']}" if old.get("register") else "without a register"
        raise ConfigError(
            f"{old['units']['done']} units of this run finished {was}, and their samples weren't kept",
            hint="choose another folder with --out, or leave --register out",
        )
    return Registering(location, f"study:{plan.name}-{plan.digest[:16]}", shown)
