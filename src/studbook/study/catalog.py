"""The names that config files and the command line use, in one explicit place.

To add a model family: one file in ``learners/`` and one line in ``LEARNERS``. The same for a mix (``mixing/``, ``MIXES``), a curator
(``curation/``, ``CURATIONS``) and a metric (``metrics/``, ``METRICS``). Other packages add names through the entry points
``studbook.learners``, ``studbook.mixes``, ``studbook.curations`` and ``studbook.metrics``; each points to a class.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from studbook import curation, learners, metrics, mixing
from studbook.errors import ConfigError
from studbook.neural.options import Decoding, Marking, Training
from studbook.parameters import build, parameters_of
from studbook.recursion import Network

LEARNERS: Mapping[str, type] = {
    "gaussian": learners.Gaussian,
    "robust_gaussian": learners.RobustGaussian,
    "bernoulli": learners.Bernoulli,
    "poisson": learners.Poisson,
    "categorical": learners.Categorical,
    "gmm": learners.GaussianMixture,
    "kde": learners.KernelDensity,
    "ngram": learners.NGram,
    "ols": learners.LeastSquares,
    "gpt": learners.Gpt,
    "causal_lm": learners.CausalLM,
    "vae": learners.Vae,
    "gan": learners.Gan,
    "diffusion": learners.Diffusion,
}

MIXES: Mapping[str, type] = {
    "replace": mixing.Replace,
    "accumulate": mixing.Accumulate,
    "subsample": mixing.Subsample,
    "keep": mixing.Keep,
    "fresh": mixing.Fresh,
    "blend": mixing.Blend,
    "weighted": mixing.Weighted,
    "heal": mixing.Heal,
    "poison": mixing.Poison,
    "contaminated": mixing.Contaminated,
}

CURATIONS: Mapping[str, type] = {"ideal": curation.Ideal, "screen": curation.Screen}
NO_CURATION = "none"
"""The kind of a ``[curation]`` table that judges nothing: one value of a grid."""


@dataclass(frozen=True, slots=True)
class MetricEntry:
    """A metric's name: a class, parameters that the name fixes, and which of its values it means (none: all)."""

    cls: type
    fixed: Mapping[str, object] = field(default_factory=dict)
    values: tuple[str, ...] = ()


METRICS: Mapping[str, MetricEntry] = {
    "mean": MetricEntry(metrics.Mean),
    "std": MetricEntry(metrics.Std),
    "variance": MetricEntry(metrics.Variance),
    "drift": MetricEntry(metrics.Drift),
    "w2": MetricEntry(metrics.Wasserstein),
    "w2_squared": MetricEntry(metrics.WassersteinSquared),
    "tail_mass": MetricEntry(metrics.TailMass),
    "support": MetricEntry(metrics.Support),
    "support_share": MetricEntry(metrics.SupportShare),
    "heterozygosity": MetricEntry(metrics.Heterozygosity),
    "entropy": MetricEntry(metrics.Entropy),
    "kl": MetricEntry(metrics.KullbackLeibler),
    "tv": MetricEntry(metrics.TotalVariation),
    "extinct": MetricEntry(metrics.Extinct),
    "information": MetricEntry(metrics.Information),
    "types": MetricEntry(metrics.Types),
    "types_share": MetricEntry(metrics.TypesShare),
    "hapax_survival": MetricEntry(metrics.HapaxSurvival),
    "rare_survival": MetricEntry(metrics.RareSurvival),
    "distinct_1": MetricEntry(metrics.Distinct, {"n": 1}),
    "distinct_2": MetricEntry(metrics.Distinct, {"n": 2}),
    "distinct_3": MetricEntry(metrics.Distinct, {"n": 3}),
    "perplexity": MetricEntry(metrics.Perplexity),
    "own_perplexity": MetricEntry(metrics.OwnPerplexity),
    "block_perplexity": MetricEntry(metrics.BlockPerplexity),
    "low_perplexity_share": MetricEntry(metrics.LowPerplexityShare),
    "high_perplexity_share": MetricEntry(metrics.HighPerplexityShare),
    "perplexity_density": MetricEntry(metrics.PerplexityDensity),
    "drift_parts": MetricEntry(metrics.DriftParts),
    "prdc": MetricEntry(metrics.PrecisionRecall),
    "precision": MetricEntry(metrics.PrecisionRecall, values=("precision",)),
    "recall": MetricEntry(metrics.PrecisionRecall, values=("recall",)),
    "density": MetricEntry(metrics.PrecisionRecall, values=("density",)),
    "coverage": MetricEntry(metrics.PrecisionRecall, values=("coverage",)),
    "fid": MetricEntry(metrics.FrechetDistance),
    "kid": MetricEntry(metrics.KernelDistance),
    "vendi": MetricEntry(metrics.VendiScore),
    "recognised": MetricEntry(metrics.Recognised),
    "memorisation": MetricEntry(metrics.Memorisation),
    "nearest_training": MetricEntry(metrics.NearestTraining),
    "latent_std": MetricEntry(metrics.LatentStd),
    "class_shares": MetricEntry(metrics.ClassShares),
    "weight_error": MetricEntry(metrics.WeightError),
}


NO_NETWORK = "none"
"""The kind of a ``[learner.protocol]`` table that means a single model: one value of a grid."""
OPTIONS: Mapping[str, type] = {"training": Training, "decoding": Decoding, "mark": Marking}
"""Tables inside ``[learner]`` that several families have."""


@dataclass(frozen=True, slots=True)
class ChosenMetric:
    """A metric as a study uses it: its name, the object, and which of its values are kept (none: all)."""

    name: str
    metric: Any
    values: tuple[str, ...] = ()

    def wants(self, value_name: str) -> bool:
        """Whether a value that the metric gives is asked for."""
        return not self.values or value_name in self.values


def create_learner(section: Mapping[str, object]) -> Any:
    """The learner that a ``[learner]`` table means."""
    return _create("learner", {**LEARNERS, **_plugins("learners", LEARNERS)}, section)


def create_mix(section: Mapping[str, object]) -> Any:
    """The mix that a ``[mix]`` table means."""
    return _create("mix", {**MIXES, **_plugins("mixes", MIXES)}, section)


def create_curation(section: Mapping[str, object]) -> Any:
    """What a ``[curation]`` table means: an object that ``open`` makes a curator of; ``None`` for the kind ``none``."""
    if section.get("kind") == NO_CURATION:
        if len(section) == 1:
            return None
        extra = min(str(key) for key in section if key != "kind")
        raise ConfigError(f"curation.{extra} belongs to no curation", hint='kind "none" judges nothing; take "ideal" or "screen"')
    return _create("curation", {**CURATIONS, **_plugins("curations", CURATIONS)}, section)


def create_network(section: object) -> Network | None:
    """What a ``[learner.protocol]`` table means, for any learner; ``None`` for the kind ``none``."""
    if isinstance(section, Network):
        return section
    if not isinstance(section, Mapping):
        raise ConfigError(f"learner.protocol is {section!r}, expected a table", hint="write [learner.protocol] and its keys below it")
    if section.get("kind") == NO_NETWORK and len(section) == 1:
        return None
    if "select" in section:
        raise ConfigError(
            "learner.protocol has a select, but a learner's model can't be sliced", hint="leave it out: clients are sent the whole model"
        )
    return build(Network, section, where="learner.protocol")


def choose_metric(name: str, parameters: Mapping[str, object]) -> ChosenMetric:
    """The metric of that name, with parameters from its own ``[metrics.NAME]`` table."""
    table = dict(METRICS)
    table.update({key: MetricEntry(cls) for key, cls in _plugins("metrics", METRICS).items()})
    entry = table[_known("metric", name, table)]
    clash = set(entry.fixed) & set(parameters)
    if clash:
        raise ConfigError(
            f"metrics.{name}.{min(clash)} is fixed by the metric's name", hint=f"leave it out, or choose another metric than {name}"
        )
    metric: Any = build(entry.cls, {**entry.fixed, **parameters}, where=f"metrics.{name}")
    return ChosenMetric(name, metric, entry.values)


def describe(thing: object) -> dict[str, object]:
    """A learner or mix as the table that creates it; a class outside the catalog is named ``module:Class``."""
    kind = kind_of(thing)
    fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
    values = {f.name: getattr(thing, f.name) for f in fields if f.init}
    return {"kind": kind, **{name: dataclasses.asdict(v) if _is_options(v) else v for name, v in values.items()}}


def _is_options(value: object) -> bool:
    """Whether a parameter is a table of its own, like ``learner.training``."""
    return dataclasses.is_dataclass(value) and type(value).__module__.startswith(("studbook.neural.", "studbook.curation."))


def changed_options(value: Any) -> dict[str, object]:
    """The options of a table that differ from the table's own defaults."""
    usual = type(value)()
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if getattr(value, f.name) != getattr(usual, f.name)}


def _table_name(name: str, default: object) -> str:
    """A table of options in a list of parameters: its name, and where a family's defaults differ from the table's."""
    changed = ", ".join(f"{key} = {value!r}" for key, value in changed_options(default).items())
    return f"[{name}] ({changed})" if changed else f"[{name}]"


def kind_of(thing: object) -> str:
    """The catalog's name for an object's class, or ``module:Class`` where it has none."""
    own = {**LEARNERS, **MIXES, **CURATIONS}
    others = {**_plugins("learners", LEARNERS), **_plugins("mixes", MIXES), **_plugins("curations", CURATIONS)}
    for table in (own, others):
        for kind, cls in table.items():
            if type(thing) is cls:
                return kind
    return f"{type(thing).__module__}:{type(thing).__qualname__}"


def _create(what: str, table: Mapping[str, type], section: Mapping[str, object]) -> Any:
    parameters = dict(section)
    kind = parameters.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{what}.kind is {kind!r}, expected one of {', '.join(sorted(table))}", hint=f"set kind in [{what}]")
    return build(table[_known(what, kind, table)], parameters, where=what)


def _known(what: str, name: str, table: Mapping[str, object]) -> str:
    if name in table:
        return name
    near = difflib.get_close_matches(name, table, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? studbook catalog shows them all" if near else ""
    raise ConfigError(f"there is no {what} {name!r}", hint=hint or f"known are {', '.join(sorted(table))}")


@functools.cache
def _entry_points(group: str) -> dict[str, Any]:
    """Looked up once: it reads the metadata of every installed package."""
    return {point.name: point for point in entry_points(group=f"studbook.{group}")}


def _plugins(group: str, taken: Mapping[str, object]) -> dict[str, type]:
    """Classes that installed packages offer; they can't take the place of a built-in name."""
    found = _entry_points(group)
    clash = sorted(set(found) & set(taken))
    if clash:
        raise ConfigError(
            f"an installed package offers studbook.{group} {clash[0]!r}, which studbook has itself", hint="rename its entry point"
        )
    return {name: point.load() for name, point in found.items()}


def catalog_rows() -> dict[str, list[dict[str, str]]]:
    """Every learner, mix, curator and metric with its parameters and what it is, and the options that learners share, for people."""
    tables: dict[str, list[dict[str, str]]] = {
        "learners": [_row(kind, cls) for kind, cls in {**LEARNERS, **_plugins("learners", LEARNERS)}.items()],
        "mixes": [_row(kind, cls) for kind, cls in {**MIXES, **_plugins("mixes", MIXES)}.items()],
        "curations": [_row(kind, cls) for kind, cls in {**CURATIONS, **_plugins("curations", CURATIONS)}.items()],
    }
    entries: list[tuple[str, Any, set[str]]] = [(name, entry.cls, set(entry.fixed)) for name, entry in METRICS.items()]
    entries += [(name, cls, set()) for name, cls in _plugins("metrics", METRICS).items()]
    tables["metrics"] = [
        {**_row(name, cls, fixed), "data": ", ".join(sorted(kind.value for kind in cls.kinds))} for name, cls, fixed in entries
    ]
    tables["options"] = [row for name, cls in {**OPTIONS, "protocol": Network}.items() for row in _option_rows(name, cls)]
    return tables


def _option_rows(table: str, cls: type) -> Iterator[dict[str, str]]:
    """One row for each key of a table that several learners have."""
    about = _attributes(cls)
    for parameter in parameters_of(cls):
        name, default = f"{table}.{parameter.name}", repr(parameter.default)
        yield {"name": name, "default": default, "takes": parameter.expected, "what": about.get(parameter.name, "")}


def _attributes(cls: type) -> dict[str, str]:
    """What a docstring's section of attributes says of each, in one line."""
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("\nAttributes:\n")
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section.partition("\n\n")[0], flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _row(kind: str, cls: type, fixed: set[str] | None = None) -> dict[str, str]:
    shown = []
    for f in dataclasses.fields(cls):
        if f.init and not f.name.startswith("_") and f.name not in (fixed or set()):
            required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
            shown.append(f.name if required else _table_name(f.name, default) if _is_options(default) else f"{f.name} = {default!r}")
    return {"name": kind, "parameters": ", ".join(shown), "what": (cls.__doc__ or "").strip().split("\n")[0]}
