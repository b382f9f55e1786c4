"""Model families, one a file."""

from __future__ import annotations

from typing import Any

from studbook.learners.bernoulli import Bernoulli, BernoulliModel
from studbook.learners.categorical import Categorical, CategoricalModel
from studbook.learners.causal_lm import CausalLM, CausalLMModel
from studbook.learners.diffusion import Diffusion, DiffusionModel
from studbook.learners.gan import Gan, GanModel
from studbook.learners.gaussian import Gaussian, GaussianModel
from studbook.learners.gmm import GaussianMixture, GaussianMixtureModel
from studbook.learners.gpt import Gpt, GptModel
from studbook.learners.kde import KernelDensity, KernelDensityModel
from studbook.learners.ngram import NGram, NGramModel
from studbook.learners.ols import LeastSquares, LeastSquaresModel
from studbook.learners.poisson import Poisson, PoissonModel
from studbook.learners.prompted import Prompted
from studbook.learners.robust import Location, RobustGaussian
from studbook.learners.vae import Vae, VaeModel
from studbook.theory.laws import GaussianLaw, Law, PoissonLaw

__all__ = [
    "Bernoulli",
    "BernoulliModel",
    "Categorical",
    "CategoricalModel",
    "CausalLM",
    "CausalLMModel",
    "Diffusion",
    "DiffusionModel",
    "Gan",
    "GanModel",
    "Gaussian",
    "GaussianMixture",
    "GaussianMixtureModel",
    "GaussianModel",
    "Gpt",
    "GptModel",
    "KernelDensity",
    "KernelDensityModel",
    "LeastSquares",
    "LeastSquaresModel",
    "Location",
    "NGram",
    "NGramModel",
    "Poisson",
    "PoissonModel",
    "Prompted",
    "RobustGaussian",
    "Vae",
    "VaeModel",
    "learner_of_law",
]


def learner_of_law(law: Law) -> Any:
    """The learner whose models have laws of this family, to draw records from one.

    Examples:
        >>> import numpy as np
        >>> from studbook.learners import learner_of_law
        >>> from studbook.theory.laws import PoissonLaw
        >>> learner_of_law(PoissonLaw(np.array([2.0])))
        Poisson()
    """
    if isinstance(law, GaussianLaw):
        return Gaussian()
    return Poisson() if isinstance(law, PoissonLaw) else Categorical()
