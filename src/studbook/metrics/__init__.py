"""What is measured on a generation, each with a standard error or exact."""

from studbook.metrics.classifier import ClassShares
from studbook.metrics.distance import Wasserstein, WassersteinSquared
from studbook.metrics.divergence import KullbackLeibler, TotalVariation
from studbook.metrics.diversity import Entropy, Extinct, Heterozygosity, Support, SupportShare
from studbook.metrics.drift_parts import DriftParts
from studbook.metrics.frechet import FrechetDistance, KernelDistance
from studbook.metrics.images import NearestTraining, PrecisionRecall
from studbook.metrics.information import Information
from studbook.metrics.latents import LatentStd
from studbook.metrics.memorisation import Memorisation
from studbook.metrics.moments import Drift, Mean, Std, Variance
from studbook.metrics.protocols import CheckedMetric, LawMetric, Metric, Observation, Reference, Scorer
from studbook.metrics.recognised import Recognised
from studbook.metrics.regression import WeightError
from studbook.metrics.tails import TailMass
from studbook.metrics.text import Distinct, HapaxSurvival, RareSurvival, Types, TypesShare
from studbook.metrics.text_density import PerplexityDensity
from studbook.metrics.text_perplexity import BlockPerplexity, HighPerplexityShare, LowPerplexityShare, OwnPerplexity, Perplexity
from studbook.metrics.vendi import VendiScore

__all__ = [
    "BlockPerplexity",
    "ClassShares",
    "Distinct",
    "Drift",
    "DriftParts",
    "Entropy",
    "Extinct",
    "FrechetDistance",
    "HapaxSurvival",
    "Heterozygosity",
    "HighPerplexityShare",
    "Information",
    "KernelDistance",
    "KullbackLeibler",
    "LatentStd",
    "CheckedMetric",
    "LawMetric",
    "LowPerplexityShare",
    "Mean",
    "Memorisation",
    "Metric",
    "NearestTraining",
    "Observation",
    "OwnPerplexity",
    "Perplexity",
    "PerplexityDensity",
    "PrecisionRecall",
    "Recognised",
    "RareSurvival",
    "Reference",
    "Scorer",
    "Std",
    "Support",
    "SupportShare",
    "TailMass",
    "TotalVariation",
    "Types",
    "TypesShare",
    "Variance",
    "VendiScore",
    "Wasserstein",
    "WassersteinSquared",
    "WeightError",
]
