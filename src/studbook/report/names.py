"""What the metrics are called in a report, what they mean, and in which order they come."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Label:
    """How a metric is presented.

    Attributes:
        title: Its name in a heading.
        about: One sentence for the reader who meets it for the first time.
        noun: Its name inside a sentence.
        phrase: For a share: what the model did, with ``{}`` for the value.
        share: Whether it is a share of the original, between 0 and 1.
        tail: Whether it belongs with the tails, which move first.
    """

    title: str
    about: str
    noun: str
    phrase: str = ""
    share: bool = False
    tail: bool = False


def _share(title: str, about: str, phrase: str, *, tail: bool = True) -> Label:
    return Label(title, about, title[:1].lower() + title[1:], phrase, share=True, tail=tail)


def _tail(title: str, about: str, noun: str) -> Label:
    return Label(title, about, noun, tail=True)


_LABELS: dict[str, Label] = {
    # The tails, in the order in which they tell the story.
    "types_share": _share(
        "Word types kept", "Different words in the generated text, as a share of the original's.", "kept {} of its vocabulary"
    ),
    "hapax_survival": _share(
        "Survival of hapaxes", "Words that occur once in the original and still occur.", "kept {} of the words that occur only once"
    ),
    "rare_survival": _share(
        "Survival of rare words",
        "The rarest quarter of the original's word types: how many still occur.",
        "kept {} of the rarest word types",
    ),
    "support_share": _share(
        "States kept", "States that the model can still produce, as a share of the original's.", "kept {} of its states"
    ),
    "support": _tail("States alive", "States that the model can still produce.", "number of states alive"),
    "classes_kept": _share(
        "Classes kept",
        "Classes that at least one generated picture is taken for, as a share of all.",
        "still made {} of the classes",
    ),
    "coverage": _share(
        "Coverage",
        "Real pictures with a generated one in their neighbourhood (Naeem et al. 2020).",
        "made lookalikes of {} of the real pictures",
    ),
    "recall": _share(
        "Recall", "Real pictures that lie within the generated ones' neighbourhoods (Kynkäänniemi et al. 2019).", "had a recall of {}"
    ),
    "tail_mass": _tail("Mass in the tails", "Probability beyond the original's 1 % and 99 % quantiles.", "mass in the tails"),
    "perplexity_density": _tail(
        "Perplexity of single sequences",
        "How probable generation 0 finds each generated sequence, as a density: left is likely text, right what it would hardly write.",
        "perplexity of single sequences",
    ),
    "types": _tail("Word types", "Different words in the generated text.", "number of word types"),
    # The rest.
    "heterozygosity": Label("Heterozygosity", "The probability that two draws differ, 1 − Σp².", "heterozygosity"),
    "variance": Label("Variance", "Spread of what the model generates.", "variance"),
    "std": Label("Standard deviation", "Spread of what the model generates.", "standard deviation"),
    "latent_std": Label(
        "Spread of the latents",
        "Standard deviation of the generated pictures' latents under generation 0's encoder (Shumailov et al. 2024).",
        "spread of the latents",
    ),
    "mean": Label("Mean", "Centre of what the model generates.", "mean"),
    "w2": Label(
        "W₂ distance to the original",
        "Wasserstein distance of order two; over random projections where it has no closed form.",
        "W₂ distance to the original",
    ),
    "w2_squared": Label(
        "W₂² to the original",
        "Squared Wasserstein distance of order two; over random projections where it has no closed form.",
        "squared W₂ distance to the original",
    ),
    "drift": Label("Drift of the mean", "Squared distance of the mean from the original's, a dimension.", "squared drift of the mean"),
    "entropy": Label("Entropy", "Of single records or words, in nats.", "entropy"),
    "kl": Label("Kullback–Leibler divergence", "Of the model from the original, in nats.", "KL divergence from the original"),
    "tv": Label(
        "Total variation", "The largest difference in the probability of any event; 1 is nothing in common.", "total variation distance"
    ),
    "drift_parts": Label(
        "What the drift is made of",
        "Change of the diversity of words in each generation, in nats of Rényi entropy: what decoding cuts off, what a finite sample loses "
        "by chance (theory), and what the fit gets wrong.",
        "parts of the drift",
    ),
    "word_diversity": Label(
        "Diversity of words",
        "Rényi entropy of order two of single words, −ln Σp², in nats, as the model writes them without truncation.",
        "diversity of words",
    ),
    "extinct": Label("Extinct", "Runs in which nothing but zero is left: the mean is their share.", "extinction"),
    "perplexity": Label(
        "Perplexity on real text",
        "How surprised the model is by real text that no generation was trained on; lower is better.",
        "perplexity on real text",
    ),
    "own_perplexity": Label(
        "Perplexity of its own text",
        "How surprised generation 0 is by this text: a fall means ever likelier text, a rise text that the original never held.",
        "perplexity of its own text",
    ),
    "block_perplexity": Label(
        "Perplexity of single blocks",
        "How probable each generated block is under generation 0's model: quantiles over the blocks of a sample.",
        "perplexity of a block",
    ),
    "class_shares": Label(
        "Classes", "The share of the generated pictures that a classifier trained on real ones takes for each class.", "class shares"
    ),
    "class_shares.entropy": Label(
        "Entropy of the classes",
        "How evenly the generated pictures spread over the classes, in nats; 0 is one class.",
        "entropy of the classes",
    ),
    "precision": _share(
        "Precision", "Generated pictures that lie within the real ones' neighbourhoods.", "had a precision of {}", tail=False
    ),
    "density": Label("Density", "How deep generated pictures lie within the real ones' neighbourhoods (Naeem et al. 2020).", "density"),
    "recognised": _share(
        "Recognised",
        "Generated pictures that a classifier of real ones takes for the class that they are meant to be.",
        "made pictures that are still recognised in {} of the cases",
        tail=False,
    ),
    "recognised.confidence": Label(
        "Confidence of the classifier",
        "Mean probability that a classifier of real pictures gives to the class that a generated one is meant to be.",
        "confidence of the classifier",
    ),
    "fid": Label(
        "FID",
        "Fréchet distance of the generated pictures' features from the real ones' (Heusel et al. 2017); 0 is none. "
        "Compare equal sizes: small samples raise it.",
        "FID",
    ),
    "fid.unbiased": Label(
        "FID, unbiased", "The same without what the size of the samples adds, to first order; may be a little below 0.", "unbiased FID"
    ),
    "kid": Label(
        "KID",
        "Kernel distance of the generated pictures' features from the real ones' (Bińkowski et al. 2018); 0 is none, on average.",
        "KID",
    ),
    "vendi": Label(
        "Vendi score",
        "The effective number of different pictures, by the similarity of their features (Friedman and Dieng 2023).",
        "Vendi score",
    ),
    "memorisation": Label(
        "Distance to the training set, by features",
        "How far generated pictures lie from the nearest training picture, against real ones it has not seen; 0 is copies.",
        "distance to the training set by features",
    ),
    "memorisation.share": Label(
        "Copies of training pictures",
        "Generated pictures nearer to a training picture than all but 1 % of real ones: .01 is what a model that copies nothing has.",
        "share of copies",
    ),
    "nearest_training": Label(
        "Distance to the training set",
        "How far generated records lie from the nearest training record, against real ones it has not seen; 0 is copies.",
        "distance to the training set",
    ),
    "low_perplexity_share": Label(
        "Too probable text", "Blocks less perplexing to generation 0 than the original's lowest 5\u00a0%.", "share of too probable blocks"
    ),
    "high_perplexity_share": Label(
        "Too improbable text",
        "Blocks more perplexing to generation 0 than the original's highest 5\u00a0%.",
        "share of too improbable blocks",
    ),
    "information_plugin": Label(
        "Information, plug-in", "Bits to write down the distinct records, by the entropy of their symbols.", "information of the sample"
    ),
    "information_compressed": Label(
        "Information, compressed", "Bits to write down the distinct records, by compression.", "compressed size of the sample"
    ),
    "weight_error": Label("Error of the weights", "Excess risk of the regression weights.", "error of the weights"),
    "distinct_1": _share("Distinct words", "Different words among all words.", "had {} distinct words", tail=False),
    "distinct_2": _share("Distinct word pairs", "Different pairs among all neighbouring words.", "had {} distinct word pairs", tail=False),
    "distinct_3": _share(
        "Distinct word triples", "Different triples among all runs of three words.", "had {} distinct triples", tail=False
    ),
}
_ORDER = {name: position for position, name in enumerate(_LABELS)}

# Which metrics the summary and the verdict table speak of, best first; at most four are taken.
HEADLINES = (
    "latent_std", "recognised", "fid", "types_share", "hapax_survival", "support_share", "classes_kept", "coverage", "recall",
    "own_perplexity", "perplexity", "variance", "std", "heterozygosity", "w2_squared", "w2", "weight_error", "mean", "tail_mass", "support",
    "rare_survival",
)  # fmt: skip


_LEARNERS = {
    "gaussian": "Gaussian model",
    "robust_gaussian": "robust Gaussian model",
    "bernoulli": "Bernoulli model",
    "poisson": "Poisson model",
    "categorical": "categorical model",
    "gmm": "Gaussian mixture",
    "kde": "kernel density estimate",
    "ols": "least-squares fit",
    "vae": "variational autoencoder",
    "gan": "generative adversarial network",
    "causal_lm": "causal language model",
    "gpt": "GPT",
    "diffusion": "diffusion model",
}


def learner_noun(learner: Mapping[str, object]) -> str:
    """What a learner is called inside a sentence.

    Args:
        learner: Its table in the manifest.

    Examples:
        >>> learner_noun({"kind": "ngram", "order": 2}), learner_noun({"kind": "kde"}), learner_noun({"kind": "mine"})
        ('2-gram model', 'kernel density estimate', 'mine model')
    """
    kind = str(learner.get("kind", ""))
    if kind == "ngram":
        return f"{learner.get('order', 'n')}-gram model"
    return _LEARNERS.get(kind, f"{kind} model".strip())


def label_of(metric: str) -> Label:
    """How ``metric`` is presented; an unknown one by its own name.

    Examples:
        >>> label_of("std").title, label_of("my_metric.low").title, label_of("my_share").share
        ('Standard deviation', 'My metric, low', True)
    """
    if metric in _LABELS:
        return _LABELS[metric]
    head, _, member = metric.partition(".")
    known = _LABELS.get(head)
    noun = known.noun if known else head.replace("_", " ").strip() or metric
    title = known.title if known else noun[:1].upper() + noun[1:]
    suffix = f", {member.replace('_', ' ')}" if member else ""
    share = known.share if known else head.endswith(("_share", "_survival"))
    phrase = (known.phrase if known else "") or f"had {noun}{suffix} of {{}}"
    return Label(
        title + suffix, known.about if known else "", noun + suffix, phrase, share, bool(known and known.tail) or (not known and share)
    )


def sort_key(metric: str) -> tuple[bool, int, list[int | str]]:
    """Tails first, then the order of the list above, unknown ones last; numbers inside a name count as numbers."""
    parts: list[int | str] = [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", metric)]
    return not label_of(metric).tail, _ORDER.get(metric.partition(".")[0], len(_ORDER)), parts


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics that are drawn in one chart.

    Attributes:
        name: The metric's name, without the member.
        members: Full names, in order.
        style: ``"line"`` (one member), ``"fan"`` (quantiles), ``"stack"`` (shares that sum to one), ``"density"`` (shares of geometric
            bins, named by the logarithms of their left edges) or ``"parts"`` (terms of a sum, of either sign).
    """

    name: str
    members: tuple[str, ...]
    style: str


def group_families(metrics: list[str]) -> list[Family]:
    """Puts quantiles and class shares together, everything else stays by itself.

    Examples:
        >>> [(f.name, f.style) for f in group_families(["std", "b.p05", "b.p50", "b.p95", "c_shares.0", "c_shares.1", "c_shares.entropy"])]
        [('std', 'line'), ('b', 'fan'), ('c_shares', 'stack'), ('c_shares.entropy', 'line')]
        >>> [f.style for f in group_families(["x_density.e0.0", "x_density.e0.1", "x_density.real.e0.0", "y_parts.a", "y_parts.b"])]
        ['density', 'parts']
    """
    heads: dict[str, list[str]] = {}
    for metric in sorted(metrics, key=sort_key):
        # The entropy of shares is not one of them.
        heads.setdefault(metric if metric.endswith("_shares.entropy") else metric.partition(".")[0], []).append(metric)
    families: list[Family] = []
    for head, members in heads.items():
        suffixes = [m.partition(".")[2] for m in members]
        if len(members) > 2 and all(re.fullmatch(r"p\d{1,3}", s) for s in suffixes):
            families.append(Family(head, tuple(members), "fan"))
        elif len(members) > 1 and head.endswith("_shares"):
            families.append(Family(head, tuple(members), "stack"))
        elif len(members) > 2 and head.endswith("_density") and all(_is_edge(s) for s in suffixes):
            families.append(Family(head, tuple(sorted(members, key=edge_of)), "density"))
        elif len(members) > 1 and head.endswith("_parts"):
            families.append(Family(head, tuple(members), "parts"))
        else:
            families.extend(Family(m, (m,), "line") for m in members)
    return sorted(families, key=lambda f: sort_key(f.name))


REAL = "real."
"""What the members of a density start with that describe the original instead of a generation."""


def edge_of(member: str) -> float:
    """The left edge of the bin that a member of a density means.

    Examples:
        >>> edge_of("perplexity_density.e1.5") == edge_of("perplexity_density.real.e1.5") == 10**1.5
        True
    """
    return float(10 ** float(member.rpartition("e")[2]))


def _is_edge(suffix: str) -> bool:
    return bool(re.fullmatch(r"(?:real\.)?e-?\d{1,2}(?:\.\d{1,3})?", suffix))
