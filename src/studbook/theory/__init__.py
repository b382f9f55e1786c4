"""What is known in closed form about models that train on their own output: pure functions, each with its source."""

from studbook.theory.categorical import (
    absorption_time,
    absorption_time_exact,
    fixation_probability,
    loss_probability,
    replaced_heterozygosity,
)
from studbook.theory.coalescence import (
    Fit,
    Path,
    coalescence,
    expected_drift,
    expected_heterozygosity,
    expected_moments,
    expected_variance,
    match_moments,
)
from studbook.theory.composition import Composition, composition_of
from studbook.theory.dose import equilibrium_share, kept_share, smallest_fresh
from studbook.theory.gaussian import (
    LogVariance,
    accumulated_variance,
    divisor_fit,
    fresh_equilibrium,
    log_variance,
    median_half_life,
    replaced_median_std,
    replaced_std,
    replaced_variance,
    replaced_w2_squared,
    std_shrinkage,
)
from studbook.theory.golden_ratio import effective_sample_size, golden_weight
from studbook.theory.kde import kde_variance, kernel_fit, scott_factor, silverman_factor
from studbook.theory.laws import CategoricalLaw, GaussianLaw, Law, PoissonLaw, matrix_root
from studbook.theory.ols import accumulated_error, replaced_error, single_fit_error
from studbook.theory.poisson import extinction_probability, rate_fit, rate_moments
from studbook.theory.predict import Prediction, Situation, predict
from studbook.theory.support import Renewal, expected_support, support_cost, survival_probability

__all__ = [
    "CategoricalLaw",
    "Composition",
    "Fit",
    "GaussianLaw",
    "Law",
    "LogVariance",
    "Path",
    "PoissonLaw",
    "Prediction",
    "Renewal",
    "Situation",
    "absorption_time",
    "absorption_time_exact",
    "accumulated_error",
    "accumulated_variance",
    "coalescence",
    "composition_of",
    "divisor_fit",
    "effective_sample_size",
    "equilibrium_share",
    "expected_drift",
    "expected_heterozygosity",
    "expected_moments",
    "expected_support",
    "expected_variance",
    "extinction_probability",
    "fixation_probability",
    "fresh_equilibrium",
    "golden_weight",
    "kde_variance",
    "kept_share",
    "kernel_fit",
    "log_variance",
    "loss_probability",
    "match_moments",
    "matrix_root",
    "median_half_life",
    "predict",
    "rate_fit",
    "rate_moments",
    "replaced_error",
    "replaced_heterozygosity",
    "replaced_median_std",
    "replaced_std",
    "replaced_variance",
    "replaced_w2_squared",
    "scott_factor",
    "silverman_factor",
    "single_fit_error",
    "smallest_fresh",
    "std_shrinkage",
    "support_cost",
    "survival_probability",
]
