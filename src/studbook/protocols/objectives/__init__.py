"""What nodes train, one family a file: classifiers of pictures and of words, an embedding of a frozen diffusion model, a soft prompt."""

from studbook.protocols.objectives.catalog import OBJECTIVES, Factory, Settings, open_objective
from studbook.protocols.objectives.cnn import Cnn
from studbook.protocols.objectives.embedding import Embedding
from studbook.protocols.objectives.mlp import Mlp
from studbook.protocols.objectives.next_word import NextWord
from studbook.protocols.objectives.soft_prompt import SoftPrompt
from studbook.protocols.objectives.softmax import Softmax
from studbook.protocols.objectives.tags import Tags

__all__ = [
    "OBJECTIVES",
    "Cnn",
    "Embedding",
    "Factory",
    "Mlp",
    "NextWord",
    "Settings",
    "SoftPrompt",
    "Softmax",
    "Tags",
    "open_objective",
]
