"""The English of the installed Python: its help topics and the docstrings of its standard library, as prose."""

from __future__ import annotations

import ast
import inspect
import os
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

MAX_SOURCE_BYTES = 4 * 2**20

# Left out: what isn't the library (site-packages), tests (made-up text) and grammars; pydoc_data is read by itself.
_SKIPPED = frozenset(
    {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "pydoc_data", "lib2to3", "lib-dynload"}
)

# A docstring is the first statement of a module, or the first line after a colon. Parsing 9 MB of source instead takes 20 times as
# long and finds three docstrings in a hundred more; nothing is imported either way.
_DOCSTRING = re.compile(
    r'(?:\A(?:[ \t]*(?:#[^\n]*)?\n)*|:[ \t]*(?:#[^\n]*)?\n\s*)[rRuU]?(?:"""(.*?)"""|\'\'\'(.*?)\'\'\'|"([^"\\\n]+)"[ \t]*\n)', re.DOTALL
)
_MARKUP = (
    (re.compile(r":[a-z:]+:`~?([^`<]*?)(?: ?<[^`]*>)?`"), r"\1"),  # ``pathlib.Path``
    (re.compile(r"`{1,2}([^`]*)[`']{1,2}"), r"\1"),  # ``code``, `name'
    (re.compile(r"(?<![\w*])\*{1,2}(\w[^*]*)\*{1,2}"), r"\1"),  # *argument*, **strong**
    (re.compile(r"(?<!\w)([\"'])([\w.]*\w)(?:\(\))?\1(?!\w)"), r"\2"),  # "name()" in the help topics, 'name'
    (re.compile(r"(?<=\w)\(\)"), ""),  # name()
    (re.compile(r"^(?:[*•+-]|\(?\d+[.)]) +"), ""),  # bullets
    (re.compile(r"_{3,}|-{3,}|={3,}|~{3,}"), " "),  # rules
)
_PLAIN_WORD = re.compile(r"[\"'“‘(\[]*(?:[A-Za-z][A-Za-z'’-]*|\d+(?:[.,]\d+)*)[\"'”’)\]]*[.,;:!?]*[\"'”’)\]]*")
_LEAST_PLAIN = 0.75
_LEAST_WORDS = 3


def list_sources() -> list[tuple[str, Path, os.stat_result]]:
    """The standard library's source files: path within it (sorted), path, and status; the help topics come first."""
    root = Path(sysconfig.get_path("stdlib"))
    found = [root / "pydoc_data" / "topics.py"]
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIPPED and not name.startswith("config-")]
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    rows = [(file.relative_to(root).as_posix(), file, file.stat()) for file in found if file.is_file()]
    return sorted(rows, key=lambda row: (not row[0].startswith("pydoc_data/"), row[0]))


def gather(sources: Iterable[tuple[str, Path, os.stat_result]]) -> str:
    """The prose of these files, one paragraph a line, no paragraph twice."""
    paragraphs: dict[str, None] = {}
    for name, file, status in sources:
        if status.st_size <= MAX_SOURCE_BYTES:
            source = file.read_text(encoding="utf-8", errors="replace")
            documents = _topics(source) if name.startswith("pydoc_data/") else _docstrings(source)
            paragraphs |= dict.fromkeys(paragraph for document in documents for paragraph in prose(document))
    return "\n".join(paragraphs)


def prose(document: str) -> Iterator[str]:
    r"""The paragraphs of a document that read like sentences, without markup; code, tables and signatures are dropped.

    Examples:
        >>> list(prose("Return the *sum* of ``a`` and ``b``.\n\n>>> add(1, 2)\n3"))
        ['Return the sum of a and b.']
    """
    for block in re.split(r"\n[ \t]*\n", document):
        if ">>>" in block or "::=" in block:
            continue
        paragraph = " ".join(block.split())
        for pattern, replacement in _MARKUP:
            paragraph = pattern.sub(replacement, paragraph)
        if _reads_like_prose(paragraph):
            yield paragraph


def _reads_like_prose(paragraph: str) -> bool:
    words = paragraph.split()
    if len(words) < _LEAST_WORDS or not (paragraph[0].isalpha() or paragraph[0] in "\"'“("):
        return False
    if paragraph[-1] not in ".:!?)\"'”":
        return False
    return sum(_PLAIN_WORD.fullmatch(word) is not None for word in words) >= _LEAST_PLAIN * len(words)


def _docstrings(source: str) -> Iterator[str]:
    for match in _DOCSTRING.finditer(source):
        yield inspect.cleandoc(match[1] or match[2] or match[3] or "")


def _topics(source: str) -> Iterator[str]:
    """The values of the ``topics`` table, in the order of its keys."""
    with warnings.catch_warnings():
        # Some releases of this generated file hold invalid escapes.
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    tables = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)]
    for table in tables:
        yield from (str(table[key]) for key in sorted(table))
