"""Plain text files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from studbook.data._digest import digest_of_batch
from studbook.data._files import checked_file, require_size
from studbook.data._unicode import read_text
from studbook.data.dataset import Dataset
from studbook.data.words import TextOptions, Tokens


@dataclass(frozen=True, slots=True)
class TextFile:
    """A UTF-8 text file, cut into contiguous blocks of tokens.

    Args:
        path: The file; ``~`` is the home folder.
        tokens: ``words`` (punctuation apart), ``whitespace`` (for text that is tokenised already, as WikiText is),
            ``characters``, ``bytes``, or ``bpe`` (byte pair encoding, trained on the text).
        block: Tokens a record.
        vocabulary: Largest number of different tokens, ``<unk>`` included; 0 keeps all. ``bpe`` needs it.
        lowercase: Whether upper case is folded away.
        limit: Blocks taken from the start; 0 takes all.
        max_bytes: Largest file that is read.
        tokenizer: The tokens of a pretrained model instead: its folder, its hub id, or ``smollm2``.

    Raises:
        ConfigError: A size out of range, or options that exclude each other.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from studbook.data import TextFile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "tale.txt")
        ...     _ = path.write_text("A model eats. A model forgets.")
        ...     dataset = TextFile(str(path), block=4).load()
        >>> dataset.space.vocabulary, dataset.records.values.tolist()
        (('A', 'model', '.', 'eats', 'forgets'), [[0, 1, 3, 2], [0, 1, 4, 2]])
    """

    path: str
    tokens: Tokens = "words"
    block: int = 64
    vocabulary: int = 0
    lowercase: bool = False
    limit: int = 0
    max_bytes: int = 2**30
    tokenizer: str = ""

    record_kind: ClassVar[str] = "text"
    origin: ClassVar[str] = "A text file of the user's."

    def __post_init__(self) -> None:
        require_size("max_bytes", self.max_bytes, 1)
        self._options()

    def load(self) -> Dataset:
        """The text as blocks.

        Raises:
            CheckpointError: The tokenizer isn't there, or is damaged.
            DataError: Missing, unreadable, not UTF-8 (with the byte offset), or shorter than a block.
            MissingExtraError: A tokenizer needs a package that isn't installed.
        """
        file, _ = checked_file(self.path, self.max_bytes)
        batch = self._options().blocks(read_text(file, self.path), self.path)
        return Dataset(Path(self.path).name, batch.space, digest_of_batch(batch), records=batch, origin=self.origin)

    def _options(self) -> TextOptions:
        return TextOptions(self.tokens, self.block, self.vocabulary, self.lowercase, self.limit, self.tokenizer)
