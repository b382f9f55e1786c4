"""Real data sets, files of the user's, and distributions that stand for data."""

from studbook.data.array_file import ArrayFile
from studbook.data.bundled import Diabetes, Digits, Mnist5k
from studbook.data.clusters import Clusters
from studbook.data.dataset import Dataset, Source
from studbook.data.distributions import Coin, Normal, PoissonCounts, Uniform, Zipf
from studbook.data.frequencies import unigram_probabilities
from studbook.data.hub import HubData
from studbook.data.idx_file import IdxFile
from studbook.data.memory import InMemory
from studbook.data.python_docs import PythonDocs
from studbook.data.sources import FILES, SOURCES, CatalogRow, CatalogSource, catalogue, describe, open_source, source_rows
from studbook.data.table_file import CsvFile, ParquetFile
from studbook.data.text_file import TextFile
from studbook.data.words import join_tokens

__all__ = [
    "FILES",
    "SOURCES",
    "ArrayFile",
    "CatalogRow",
    "CatalogSource",
    "Clusters",
    "Coin",
    "CsvFile",
    "Dataset",
    "Diabetes",
    "Digits",
    "HubData",
    "IdxFile",
    "InMemory",
    "Mnist5k",
    "Normal",
    "ParquetFile",
    "PoissonCounts",
    "PythonDocs",
    "Source",
    "TextFile",
    "Uniform",
    "Zipf",
    "catalogue",
    "describe",
    "join_tokens",
    "open_source",
    "source_rows",
    "unigram_probabilities",
]
