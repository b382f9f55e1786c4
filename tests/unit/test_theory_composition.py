"""What the theory takes a mix to be, against what the mix says itself."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from studbook.mixing import Accumulate, Blend, Fresh, Keep, Mix, Origin, Replace, Subsample, Weighted
from studbook.theory import composition_of

MIXES = [
    ("replace", Replace()),
    ("accumulate", Accumulate()),
    ("subsample", Subsample()),
    *(("keep", Keep(share=share)) for share in (0.0, 0.1, 0.5, 0.75, 1.0)),
    *(("fresh", Fresh(fresh=fresh)) for fresh in (0, 1, 7)),
    *(
        ("blend", Blend(alpha=alpha, beta=beta, gamma=gamma))
        for alpha, beta, gamma in ((0.5, 0.3, 0.2), (0.5, 0.5, 0.0), (0.0, 0.5, 0.5), (1.0, 0.0, 0.0), (0.1, 0.45, 0.45))
    ),
    *(("weighted", Weighted(weight=weight, fresh=fresh)) for weight in (0.25, 0.9, "golden") for fresh in (0, 1, 7)),
]


@pytest.mark.parametrize(("n", "n_original"), [(7, 7), (11, 23), (15, 101), (101, 101), (999, 1_001), (1_001, 1_003), (25, 10_007)])
@pytest.mark.parametrize(("kind", "mix"), MIXES, ids=lambda value: value if isinstance(value, str) else repr(value))
def test_the_theory_reads_a_mix_as_the_mix_does(kind: str, mix: Mix, n: int, n_original: int):
    composition = composition_of(kind, asdict(mix), n, n_original)
    parts = mix.parts(n, n_original)
    assert composition is not None
    if composition.pool is not None:
        assert [(part.origin, part.n) for part in parts] == [(Origin.POOL, composition.pool or None)]
        assert composition.generated == n
        return
    counts = {part.origin: n_original if part.n is None else part.n for part in parts}
    origins = (Origin.GENERATED, Origin.FRESH, Origin.ORIGINAL, Origin.PREVIOUS)
    assert [counts.get(origin, 0) for origin in origins] == [
        composition.generated,
        composition.fresh,
        composition.original,
        composition.previous,
    ]
    weights = {part.origin: part.weight * counts[part.origin] for part in parts}
    total = sum(weights.values())
    assert [weights.get(origin, 0.0) / total for origin in origins] == pytest.approx(composition.shares)
