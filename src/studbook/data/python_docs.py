"""Real text on every machine: the documentation inside the installed Python."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from typing import ClassVar

from studbook.data import _english, _text_cache
from studbook.data._digest import digest_of_batch
from studbook.data._files import reading
from studbook.data.dataset import Dataset
from studbook.data.words import TextOptions, Tokens
from studbook.errors import DataError

# Part of the cache's key: a changed extraction mustn't find the old text.
_EXTRACTION = "1"


@dataclass(frozen=True, slots=True)
class PythonDocs:
    """The English of the installed Python: its help topics (``pydoc_data``) and the docstrings of its standard library.

    About 300,000 words. The files are read as text; nothing is imported or run. The text differs between releases of Python: the
    digest says which one it was. It is kept in the user's cache folder.

    Args:
        block: Tokens a record.
        vocabulary: Largest number of different tokens, ``<unk>`` included; 0 keeps all.
        tokens: See ``TextFile``.
        lowercase: Whether upper case is folded away.
        limit: Blocks taken from the start; 0 takes all.
        tokenizer: See ``TextFile``.

    Raises:
        ConfigError: A size out of range, or options that exclude each other.

    Examples:
        >>> from studbook.data import PythonDocs
        >>> dataset = PythonDocs(block=32, vocabulary=1000).load()
        >>> dataset.space.shape, dataset.space.n_states
        ((32,), 1000)
    """

    block: int = 64
    vocabulary: int = 0
    tokens: Tokens = "words"
    lowercase: bool = False
    limit: int = 0
    tokenizer: str = ""

    record_kind: ClassVar[str] = "text"
    origin: ClassVar[str] = (
        f"Help topics and docstrings of Python {platform.python_version()}'s standard library, Python Software Foundation License."
    )

    def __post_init__(self) -> None:
        self._options()

    def load(self) -> Dataset:
        """The text as blocks.

        Raises:
            CheckpointError: The tokenizer isn't there, or is damaged.
            DataError: This Python ships no sources to read.
            MissingExtraError: A tokenizer needs a package that isn't installed.
        """
        batch = self._options().blocks([python_english()], "python-docs")
        return Dataset("python-docs", batch.space, digest_of_batch(batch), records=batch, origin=self.origin)

    def _options(self) -> TextOptions:
        return TextOptions(self.tokens, self.block, self.vocabulary, self.lowercase, self.limit, self.tokenizer)


def python_english() -> str:
    """The prose, one paragraph a line, from the cache where the installed files are the same.

    Raises:
        DataError: This Python ships no sources to read.
    """
    with reading("the standard library"):
        sources = _english.list_sources()
        listing = "\n".join(f"{name} {status.st_size} {status.st_mtime_ns}" for name, _, status in sources)
        version = f"{platform.python_implementation()} {platform.python_version()}"
        key = hashlib.sha256(f"{_EXTRACTION}\n{version}\n{listing}".encode()).hexdigest()
        name = f"python-docs-{key[:32]}.txt"
        text = _text_cache.read_cached(name)
        if text is None:
            text = _english.gather(sources)
            _text_cache.write_cached(name, text)
    if not text:
        hint = "name a text file in data.source instead"
        raise DataError("this Python ships no help topics and no sources of its standard library", hint=hint)
    return text
