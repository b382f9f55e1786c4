"""The real screen in the loop: the register of known outputs, and the test of a watermark."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from studbook.arrays import AnyArray, Batch, Kind, Space
from studbook.curation.attack import Attack
from studbook.curation.checks import require_candidates
from studbook.curation.judged import Judged
from studbook.data import join_tokens
from studbook.errors import ConfigError
from studbook.marks.choice import mark_of
from studbook.mixing import Origin

if TYPE_CHECKING:
    from studbook.marks import TextMarkDetector
    from studbook.registry import Register

WitnessName: TypeAlias = Literal["register", "watermark"]
_NO_ATTACK = Attack()


class LoopWitness(Protocol):
    """One way of finding generated records in the loop, which sees records as the model's tokens or pixels.

    Attributes:
        name: The reason that its rejects have.
    """

    @property
    def name(self) -> str: ...

    def note(self, generation: int, sample: Batch) -> None:
        """Take note of what was published."""
        ...

    def examine(self, records: Batch) -> list[str]:
        """For each record why it was generated, in one sentence; empty where nothing says so."""
        ...


@dataclass(frozen=True, slots=True)
class Screen:
    """Rejects what the register knows and what carries the model's watermark, real records by mistake included.

    The register is the provider's: everything that a model of the chain generated is in it when the next corpus is gathered, before anybody
    edits it. It is a new one for each replicate. The watermark is the learner's own (``[learner.mark]``), its test is exact.

    Attributes:
        witnesses: ``"register"``, ``"watermark"``, or both; the first that knows a record rejects it.
        false_alarm: P-value at or below which a watermark's test is a hit, above 0 and below 1; needed for ``"watermark"``.
        attack: What somebody does to generated records before they are screened.
        refill: Whether rejected candidates are replaced by further ones, so that the training set keeps its size.
        candidates: At most so many candidates are seen for each record of the training set; what is missing then stays missing. Of a data
            set, as many times the mix's fresh records are set aside.

    Examples:
        >>> import numpy as np
        >>> from studbook.arrays import text
        >>> from studbook.curation import Screen
        >>> from studbook.mixing import Origin
        >>> words = tuple(f"w{i}" for i in range(1000))
        >>> made, real = (text(np.random.default_rng(i).integers(1000, size=(5, 40)), words) for i in range(2))
        >>> with Screen(("register",)).open(made.space, None, seed=0) as curator:
        ...     curator.note(0, made)
        ...     verdicts = [curator.judge(batch, Origin.FRESH, rng=np.random.default_rng(0)).verdicts.tolist() for batch in (made, real)]
        >>> verdicts
        [[0, 0, 0, 0, 0], [-1, -1, -1, -1, -1]]
    """

    witnesses: tuple[WitnessName, ...]
    false_alarm: float = 0.0
    attack: Attack = _NO_ATTACK
    refill: bool = True
    candidates: int = 100

    def __post_init__(self) -> None:
        require_candidates(self.candidates)
        if not self.witnesses or len(set(self.witnesses)) < len(self.witnesses):
            raise ConfigError(f"curation.witnesses is {list(self.witnesses)}, expected register, watermark or both, each once")
        if not 0.0 <= self.false_alarm < 1.0 or ("watermark" in self.witnesses and self.false_alarm == 0.0):
            raise ConfigError(
                f"curation.false_alarm is {self.false_alarm}, expected a rate above 0 and below 1 for the watermark's test",
                hint="0.001 takes one real record of a thousand for a marked one",
            )

    @property
    def remembers(self) -> bool:
        """See ``studbook.recursion.Curator``."""
        return "register" in self.witnesses

    def check_space(self, space: Space, learner: Any) -> None:
        """Refuse records that no witness can look at, before anything is run.

        Raises:
            ConfigError: Numbers, states or counts; pictures with a watermark or an attack; or a learner that doesn't mark its text.
        """
        if space.kind is not Kind.TEXT and (space.kind is not Kind.IMAGES or "watermark" in self.witnesses or self.attack.share):
            raise ConfigError(
                f"a screen of {' and '.join(self.witnesses)} can't tell records of {space.kind.value} apart"
                f"{' after an attack' if self.attack.share else ''}",
                hint='it reads text, the register pictures, too; for states take documents (data.source = "zipf-text"), or kind = "ideal"',
            )
        if "watermark" in self.witnesses:
            _mark_of(learner, space)

    @contextmanager
    def open(self, space: Space, learner: Any, *, seed: int) -> Iterator[ScreenCurator]:
        """The curator of one replicate, with an empty register."""
        with ExitStack() as stack:
            found: list[LoopWitness] = []
            for name in self.witnesses:
                if name == "register":
                    found.append(RegisterInLoop(_new_register(stack)))
                else:
                    found.append(_watermark(learner, space, self.false_alarm))
            yield ScreenCurator(self, tuple(found))


@dataclass(frozen=True, slots=True, eq=False)
class ScreenCurator:
    """An open screen: see ``studbook.recursion.Curator``.

    Attributes:
        screen: What it was opened from.
        witnesses: Asked in this order.
    """

    screen: Screen
    witnesses: Sequence[LoopWitness]

    @property
    def refill(self) -> bool:
        """See ``studbook.recursion.Curator``."""
        return self.screen.refill

    @property
    def candidates(self) -> int:
        """See ``studbook.recursion.Curator``."""
        return self.screen.candidates

    @property
    def remembers(self) -> bool:
        """See ``studbook.recursion.Curator``."""
        return self.screen.remembers

    def write(self, model: Any, n: int, *, rng: np.random.Generator) -> Batch:
        """See ``studbook.recursion.Curator``: the learner marks what it writes."""
        sample: Batch = model.sample(n, rng=rng)
        return sample

    def note(self, generation: int, sample: Batch) -> None:
        """See ``studbook.recursion.Curator``."""
        for witness in self.witnesses:
            witness.note(generation, sample)

    def judge(self, candidates: Batch, origin: Origin, *, rng: np.random.Generator) -> Judged:
        """See ``studbook.recursion.Curator``. Only the attacker looks at the origin."""
        records = self.screen.attack.change(candidates, rng=rng) if origin is Origin.GENERATED else candidates
        verdicts, details = np.full(len(records), -1), dict[int, str]()
        for index, witness in enumerate(self.witnesses):
            open_rows = np.flatnonzero(verdicts < 0)
            for row, why in zip(open_rows.tolist(), witness.examine(records.take(open_rows)), strict=True):
                if why:
                    verdicts[row], details[row] = index, why
        return Judged(records, verdicts, tuple(witness.name for witness in self.witnesses), details)


@dataclass(frozen=True, slots=True, eq=False)
class RegisterInLoop:
    """The register of everything that the chain's models generated.

    Attributes:
        register: An open one.
    """

    register: Register

    @property
    def name(self) -> str:
        """See ``LoopWitness``."""
        return "register"

    def note(self, generation: int, sample: Batch) -> None:
        """See ``LoopWitness``."""
        register_batch(self.register, sample, model=f"generation {generation}", source="the chain itself")

    def examine(self, records: Batch) -> list[str]:
        """See ``LoopWitness``."""
        if records.space.kind is Kind.IMAGES:
            found = self.register.find_images(pixels_of(records))
        else:
            texts = texts_of(records)
            known = iter(self.register.find_texts([text for text in texts if text]))
            found = [next(known) if text else () for text in texts]
        return [
            f"{match[0].how} to an output of {match[0].entry.model} ({match[0].scheme} {match[0].distance:.3g})" if match else ""
            for match in found
        ]


@dataclass(frozen=True, slots=True, eq=False)
class WatermarkInLoop:
    """The exact test of the learner's mark on token ids.

    Attributes:
        detector: Of this mark.
        false_alarm: P-value at or below which it is a hit.
    """

    detector: TextMarkDetector
    false_alarm: float

    @property
    def name(self) -> str:
        """See ``LoopWitness``."""
        return "watermark"

    def note(self, generation: int, sample: Batch) -> None:
        """See ``LoopWitness``: a mark needs no list of what was marked."""

    def examine(self, records: Batch) -> list[str]:
        """See ``LoopWitness``."""
        results = self.detector.detect_many(list(records.values.astype(np.int64))) if len(records) else []
        p_values = [result.p_value_corrected for result in results]
        return [f"carries the mark (p = {p_value:.2g})" if p_value <= self.false_alarm else "" for p_value in p_values]


def register_batch(register: Register, sample: Batch, *, model: str, source: str, parents: Sequence[str] = ()) -> None:
    """Enter what a model generated: texts as they read, pictures as their pixels. Empty texts have nothing to enter.

    Raises:
        ConfigError: Records that are neither.
        RegisterError: The register refuses them.
    """
    if sample.space.kind is Kind.IMAGES:
        register.add_images(pixels_of(sample), model=model, source=source, parents=parents)
    elif sample.space.kind is Kind.TEXT:
        register.add_texts([text for text in texts_of(sample) if text], model=model, source=source, parents=parents)
    else:
        raise ConfigError(f"a register holds texts and pictures, not {sample.space.kind.value}")


def texts_of(records: Batch) -> list[str]:
    """Blocks as texts that a register takes; ``""`` for one without a printed character."""
    texts = (join_tokens(block, records.space).encode("utf-8", "replace").decode() for block in records.values)
    return [text if text.strip() else "" for text in texts]


def pixels_of(records: Batch) -> list[AnyArray]:
    """Pictures as bytes: ``(h, w)`` or ``(h, w, 3)`` uint8."""
    low, high = records.space.value_range
    scaled = np.round(np.clip((records.values - low) / ((high - low) or 1.0), 0.0, 1.0) * 255).astype(np.uint8)
    if scaled.ndim == 4 and scaled.shape[-1] == 1:
        scaled = scaled[..., 0]
    return list(scaled)


def _new_register(stack: ExitStack) -> Register:
    from studbook.registry import Register

    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="studbook-register-"))
    return stack.enter_context(Register.open(Path(folder, "register.db"), create=True))


def _mark_of(learner: Any, space: Space) -> Any:
    marking = getattr(learner, "mark", None)
    mark = None if marking is None else mark_of(marking, space.n_states)
    if mark is None:
        raise ConfigError(
            "the curator looks for a watermark, but the learner's text has none",
            hint='mark it: [learner.mark] with scheme = "kgw" and keys = [15485863]',
        )
    return mark


def _watermark(learner: Any, space: Space, false_alarm: float) -> WatermarkInLoop:
    from studbook.marks import TextMarkDetector

    return WatermarkInLoop(TextMarkDetector(_mark_of(learner, space)), false_alarm)
