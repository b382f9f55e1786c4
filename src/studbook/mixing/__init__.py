"""What the next generation trains on."""

from studbook.mixing.accumulate import Accumulate
from studbook.mixing.blend import Blend
from studbook.mixing.contaminated import Contaminated
from studbook.mixing.fresh import Fresh
from studbook.mixing.heal import Heal
from studbook.mixing.keep import Keep
from studbook.mixing.part import Mix, Origin, Part
from studbook.mixing.poison import Poison
from studbook.mixing.quotas import NO_MODEL, Chosen, Quotas, choose_mix
from studbook.mixing.replace import Replace
from studbook.mixing.subsample import Subsample
from studbook.mixing.weighted import Weighted

__all__ = [
    "NO_MODEL",
    "Accumulate",
    "Blend",
    "Chosen",
    "Contaminated",
    "Fresh",
    "Heal",
    "Keep",
    "Mix",
    "Origin",
    "Part",
    "Poison",
    "Quotas",
    "Replace",
    "Subsample",
    "Weighted",
    "choose_mix",
]
