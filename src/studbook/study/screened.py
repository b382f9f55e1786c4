"""Theory beside curated cells: what an ideal screen leaves, and what that does."""

from __future__ import annotations

import math

import numpy as np

from studbook.arrays import Floats
from studbook.curation import Ideal
from studbook.mixing import Contaminated, Fresh, Replace
from studbook.study.plan import Job
from studbook.study.results import GENERATED_SHARE
from studbook.theory.laws import CategoricalLaw
from studbook.theory.screened import Screening, screened_heterozygosity, screened_renewal, screened_support
from studbook.theory.situation import Prediction, Situation
from studbook.theory.support import support_cost

_COST_LIMIT = 1e10
_SOURCE = "Wright 1931 (migration)"
_SPREAD = 6.0


def predict_screened(job: Job, situation: Situation, metric: str) -> Prediction | None:
    """The curve of a metric over the generations that are measured, where it is known: states, an ideal screen, fresh real records."""
    screening = screening_of(job)
    if screening is None or not _fills(screening, job.n, job.cell.curation):
        return None
    if metric == GENERATED_SHARE:
        formula = "r = π(1 − TPR)/[π(1 − TPR) + (1 − π)(1 − FPR)]"
        return Prediction(np.full(len(job.measured), screening.residual), None, job.cell.curation.refill, _SOURCE, formula)
    states = situation.learner in {"categorical", "bernoulli"} and situation.sampled_original
    if not states or not isinstance(situation.law, CategoricalLaw):
        return None
    if metric == "heterozygosity":
        return _predict_heterozygosity(job, screening, situation.law.probabilities[0])
    if metric in {"support", "support_share"}:
        return _predict_support(job, screening, situation.law.probabilities[0], share=metric == "support_share")
    return None


def _predict_heterozygosity(job: Job, screening: Screening, probabilities: Floats) -> Prediction:
    generations, refill = np.array(job.measured), job.cell.curation.refill
    start = float(probabilities @ (1.0 - probabilities))
    kept = screened_heterozygosity(screening, job.n, job.n_original, generations, refill=refill)
    return Prediction(start * kept, None, refill, _SOURCE, "E H_t = H_0(1 − F_t) with the residual share r")


def _predict_support(job: Job, screening: Screening, probabilities: Floats, *, share: bool) -> Prediction | None:
    generations, refill = np.array(job.measured), job.cell.curation.refill
    renewal = screened_renewal(screening, job.n, refill=refill)
    if support_cost(len(np.unique(probabilities)), renewal, job.n_original, int(generations.max(initial=0))) > _COST_LIMIT:
        return None
    support = screened_support(probabilities, screening, job.n, job.n_original, generations, refill=refill)
    whole = float(np.count_nonzero(probabilities > 0.0)) if share else 1.0
    return Prediction(support / whole, None, exact=False, source=_SOURCE, formula="Σ P(state alive) with N(1 − r) migrants")


def _fills(screening: Screening, n: int, curation: Ideal) -> bool:
    """Whether candidates suffice, but for chances below one in a billion: of a training set that stays smaller the size isn't known."""
    seen = n * (curation.candidates if curation.refill else 1)
    passed = seen * screening.accepted
    return passed - _SPREAD * math.sqrt(passed * (1.0 - screening.accepted)) >= n if curation.refill else passed > 0.0


def screening_of(job: Job) -> Screening | None:
    """Contamination and error rates of a cell; ``None`` where they aren't stated."""
    curation, mix = job.cell.curation, job.cell.mix
    if not isinstance(curation, Ideal):
        return None
    if isinstance(mix, Contaminated):
        contamination = round(mix.share * job.n) / job.n
    elif isinstance(mix, Fresh):
        contamination = 1.0 - mix.fresh / job.n
    elif isinstance(mix, Replace):
        contamination = 1.0
    else:
        return None
    return Screening(contamination, curation.tpr, curation.fpr)
