"""What was asked of which model, and what is claimed to have come out."""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, TypeAlias

from studbook.errors import RecordError
from studbook.records.canonical import canonical_bytes, digest_of
from studbook.records.codec import STRICT, to_plain
from studbook.records.digest import Digest

Engine: TypeAlias = Literal["studbook", "transformers"]
Dtype: TypeAlias = Literal["fp32", "bf16"]

MAX_REQUEST = 1 << 20
MAX_TOKENS = 1 << 17
MAX_SEED = 2**53 - 1
_SHA = re.compile(r"sha256:[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]+")
_TIME = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z")


def _require(condition: bool, name: str, got: object, expected: str) -> None:
    if not condition:
        raise RecordError(f"{name} is {str(got)[:80]!r}, expected {expected}")


def require_sha(value: str, name: str) -> None:
    """Refuse what isn't ``sha256:`` and 64 hex digits.

    Raises:
        RecordError: It isn't.
    """
    _require(_SHA.fullmatch(value) is not None, name, value, "sha256: and 64 hex digits")


def require_time(value: str, name: str) -> None:
    """Refuse what isn't a time in UTC.

    Raises:
        RecordError: It isn't.
    """
    _require(_is_time(value), name, value, "a time such as 2026-01-31T12:00:00Z")


@lru_cache(maxsize=256)
def _is_time(value: str) -> bool:
    """Entries come by the thousand with one time."""
    try:
        return _TIME.fullmatch(value) is not None and dt.datetime.fromisoformat(value) is not None
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a model ran: what may change the last bits of its numbers.

    Attributes:
        engine: ``studbook``'s own decoder, or ``transformers``'.
        dtype: Of weights and activations.
        device: ``cpu`` or ``cuda``.
        threads: Of the CPU.
        batch: Outputs that were made side by side.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    engine: Engine = "studbook"
    dtype: Dtype = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    batch: int = 1

    def __post_init__(self) -> None:
        _require(1 <= self.threads <= 4096, "environment.threads", self.threads, "1 to 4,096")
        _require(1 <= self.batch <= 1 << 20, "environment.batch", self.batch, "1 or more")

    def __str__(self) -> str:
        return f"{self.engine}, {self.dtype}, {self.device}, {self.threads} thread(s), batch {self.batch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSampling:
    """How text was written. With a temperature, token t is the one that maximises logit/temperature + Gumbel noise; the noise is a
    function of seed, position and token alone (``studbook.verification.noise``), so that any position can be checked by itself.

    Attributes:
        max_new: Tokens of the output, at most.
        temperature: 0 is greedy.
        top_k: The likeliest tokens that are left; 0 is all.
        top_p: The fewest likeliest tokens that hold this probability, in (0, 1].
        beams: Above 1: beam search, greedy.
        stop: The end token ends the text.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    max_new: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    beams: int = 1
    stop: bool = True

    def __post_init__(self) -> None:
        _require(1 <= self.max_new <= MAX_TOKENS, "sampling.max_new", self.max_new, f"1 to {MAX_TOKENS:,}")
        warm = math.isfinite(self.temperature) and 1e-3 <= self.temperature <= 100
        _require(warm or self.temperature == 0, "sampling.temperature", self.temperature, "0 (greedy), or 0.001 to 100")
        _require(0 <= self.top_k <= 1 << 22, "sampling.top_k", self.top_k, "0 (all) or more")
        _require(0 < self.top_p <= 1, "sampling.top_p", self.top_p, "above 0, at most 1")
        _require(1 <= self.beams <= 192, "sampling.beams", self.beams, "1 to 192")
        _require(self.beams == 1 or self.temperature == 0, "sampling.temperature", self.temperature, "0 with beam search")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSampling:
    """How a picture was drawn: ``studbook.neural.diffusion.Sampling``.

    Attributes:
        steps: Denoising steps.
        guidance: Weight of classifier-free guidance.
        eta: 0 is deterministic; else the noise of each step is a function of seed and step.
        order: 1 (DDIM) or 2.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    steps: int
    guidance: float = 0.0
    eta: float = 0.0
    order: int = 1

    def __post_init__(self) -> None:
        _require(1 <= self.steps <= 10_000, "sampling.steps", self.steps, "1 to 10,000")
        _require(math.isfinite(self.guidance) and -100 <= self.guidance <= 100, "sampling.guidance", self.guidance, "-100 to 100")
        _require(0 <= self.eta <= 1, "sampling.eta", self.eta, "0 to 1")
        _require(self.order in {1, 2}, "sampling.order", self.order, "1 or 2")
        _require(self.order == 1 or self.eta == 0, "sampling.order", self.order, "1 where eta is above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that determines an output.

    Attributes:
        model: Digest of the model's weights, config and tokenizer: ``sha256:…``.
        request: The request, byte for byte (UTF-8): the prompt of a text, the class of a picture in decimal digits (or nothing).
        sampling: How the output was drawn; its type says what the output is.
        seed: 0 … 2⁵³ - 1.
        code: Name and version of the code that drew it.
        environment: Where it ran; isn't part of what is promised, and says which tolerance applies.

    Examples:
        >>> from studbook.records import Environment, Recipe, TextSampling
        >>> model, how = "sha256:" + 64 * "0", TextSampling(max_new=8)
        >>> recipe = Recipe(model=model, request="Once", sampling=how, seed=1, code="studbook 0.1", environment=Environment())
        >>> recipe.kind
        'text'
    """

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    model: str
    request: str
    sampling: TextSampling | ImageSampling
    seed: int
    code: str
    environment: Environment

    def __post_init__(self) -> None:
        require_sha(self.model, "recipe.model")
        _require(0 <= self.seed <= MAX_SEED, "recipe.seed", self.seed, "0 to 2^53 - 1")
        _require(len(self.request) <= MAX_REQUEST, "recipe.request", f"{len(self.request):,} characters", f"at most {MAX_REQUEST:,}")
        _require(0 < len(self.code) <= 200, "recipe.code", self.code, "a name and a version")
        if isinstance(self.sampling, ImageSampling):
            numeric = self.request == "" or (self.request.isascii() and self.request.isdigit() and len(self.request) <= 18)
            _require(numeric, "recipe.request", self.request, "the class of the picture in decimal digits, or nothing")

    @property
    def kind(self) -> Literal["text", "image"]:
        """What the output is."""
        return "text" if isinstance(self.sampling, TextSampling) else "image"

    @property
    def task(self) -> str:
        """Digest of all but environment and code: two recipes of one task promise the same output."""
        plain = to_plain(self)
        return digest_of({name: plain[name] for name in ("model", "request", "sampling", "seed")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """That this recipe gave this output.

    Attributes:
        recipe: What was asked.
        tokens: The written token ids of a text; empty for a picture.
        digests: Fingerprints of the output, one at least, each of its own scheme.
        commitment: Merkle root (hex) over the hidden states of a text's tokens, or over the steps of a picture's trajectory; made before
            anyone knows which of them will be looked at.
        nonce: 128 random bits in hex: two claims are never the same record.
        made: When, in UTC: ``2026-01-31T12:00:00Z``. The claimant's word.

    Raises:
        RecordError: An empty claim, or one whose parts don't belong together.
    """

    SCHEMA: ClassVar[str] = "studbook.claim/1"
    MAX_BYTES: ClassVar[int] = 4 << 20
    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    recipe: Recipe
    tokens: tuple[int, ...]
    digests: tuple[Digest, ...]
    commitment: str
    nonce: str
    made: str

    def __post_init__(self) -> None:
        text = self.recipe.kind == "text"
        _require(bool(self.digests), "claim.digests", "empty", "one or more: an empty claim proves nothing")
        _require(len(self.digests) <= 32, "claim.digests", len(self.digests), "at most 32")
        schemes = [digest.scheme for digest in self.digests]
        _require(len(set(schemes)) == len(schemes), "claim.digests", schemes, "one digest a scheme")
        _require(bool(self.tokens) == text, "claim.tokens", f"{len(self.tokens)} tokens", "one or more for a text, none for a picture")
        if isinstance(self.recipe.sampling, TextSampling):
            most = self.recipe.sampling.max_new
            _require(len(self.tokens) <= most, "claim.tokens", f"{len(self.tokens)} tokens", f"at most sampling.max_new, {most}")
            _require(all(0 <= token < 1 << 31 for token in self.tokens), "claim.tokens", "a token id out of range", "0 to 2^31 - 1")
        _require(
            len(self.commitment) == 64 and _HEX.fullmatch(self.commitment) is not None, "claim.commitment", self.commitment, "64 hex digits"
        )
        _require(len(self.nonce) == 32 and _HEX.fullmatch(self.nonce) is not None, "claim.nonce", self.nonce, "32 hex digits")
        require_time(self.made, "claim.made")

    def digest(self, scheme: str) -> Digest | None:
        """The digest of a scheme, or ``None``."""
        return next((each for each in self.digests if each.scheme == scheme), None)

    @property
    def task(self) -> str:
        """The recipe's task: what a quorum votes on."""
        return self.recipe.task

    @property
    def id(self) -> str:
        """Digest of the claim itself: ``sha256:…``."""
        return digest_of(to_plain(self))

    def canonical(self) -> bytes:
        """The claim's canonical bytes."""
        return canonical_bytes(to_plain(self))


Sampling: TypeAlias = TextSampling | ImageSampling
