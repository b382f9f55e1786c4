"""Predictions for models of unordered states: categorical, bernoulli."""

from __future__ import annotations

import numpy as np

from studbook.arrays import Ints
from studbook.theory.coalescence import expected_heterozygosity
from studbook.theory.laws import CategoricalLaw
from studbook.theory.situation import Prediction, Situation
from studbook.theory.support import Renewal, expected_support, support_cost

_COST_LIMIT = 1e10
"""Elementary steps (some ten seconds) beyond which the support isn't predicted."""


def predict_states(situation: Situation, metric: str, generations: Ints) -> Prediction | None:
    """``heterozygosity``, ``support``, ``support_share``, or ``None``."""
    if not isinstance(situation.law, CategoricalLaw):
        return None
    if metric == "heterozygosity":
        return _predict_heterozygosity(situation, situation.law, generations)
    if metric not in {"support", "support_share"}:
        return None
    support = _predict_support(situation, situation.law, generations)
    if support is None or metric == "support":
        return support
    whole = float(np.count_nonzero(situation.law.probabilities[0] > 0.0))
    return Prediction(support.mean / whole, None, support.exact, support.source, support.formula + " / K")


def _predict_heterozygosity(situation: Situation, law: CategoricalLaw, generations: Ints) -> Prediction | None:
    composition = situation.composition
    if composition is None:
        return None
    probabilities = law.probabilities[0]
    # 1 − Σp², without the difference of two nearly equal numbers.
    initial = float(probabilities @ (1.0 - probabilities))
    curve = expected_heterozygosity(
        composition,
        situation.n_original,
        int(generations.max(initial=0)),
        sampled=situation.sampled_original,
        heterozygosity=initial,
    )
    source = "Wright 1931; Crow and Kimura 1970"
    return Prediction(curve[generations], None, not situation.draws_reserve, source, "E H_t = H_0(1 − F_t)")


def _predict_support(situation: Situation, law: CategoricalLaw, generations: Ints) -> Prediction | None:
    composition = situation.composition
    # New states may come out of a reserve, and nobody knows which.
    if composition is None or situation.draws_reserve:
        return None
    probabilities = law.probabilities[0][law.probabilities[0] > 0.0]
    keeps_original = composition.pool == 0 or (composition.real_share is not None and composition.original == situation.n_original)
    if keeps_original:
        lost = np.exp(situation.n_original * np.log1p(-np.minimum(probabilities, 1.0 - 1e-16))) if situation.sampled_original else 0.0
        values = np.full(len(generations), float((np.ones_like(probabilities) - lost).sum()))
        return Prediction(values, None, exact=True, source="Gerstgrasser et al. 2024", formula="Σ 1 − (1 − p)^n: all of the original stays")
    if composition.pool is not None or composition.real_share is not None or composition.previous:
        return None
    renewal = Renewal(composition.generated, composition.fresh, composition.original)
    last = int(generations.max(initial=0))
    distinct = len(np.unique(probabilities))
    if support_cost(distinct, renewal, situation.n_original, last, sampled=situation.sampled_original) > _COST_LIMIT:
        return None
    values = expected_support(probabilities, renewal, situation.n_original, generations, sampled=situation.sampled_original)
    formula = "Σ P(state alive), one binomial chain a state"
    return Prediction(values, None, exact=True, source="Wright 1931; Shumailov et al. 2024", formula=formula)
