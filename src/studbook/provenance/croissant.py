"""Croissant metadata (MLCommons, version 1.0): what files a data set has, their sums, and what it was derived from (PROV-O)."""

from __future__ import annotations

import datetime as dt
import json
import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studbook.errors import ConfigError, DataError
from studbook.files import write_file
from studbook.provenance.model_folders import SIGNATURE, file_names, file_sum

CROISSANT = "croissant.json"
CONFORMS = "http://mlcommons.org/croissant/1.0"
_CONTEXT: Mapping[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "dct": "http://purl.org/dc/terms/", "prov": "http://www.w3.org/ns/prov#",
    "citeAs": "cr:citeAs", "column": "cr:column", "conformsTo": "dct:conformsTo", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract",
    "field": "cr:field", "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5",
    "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex",
    "repeated": "cr:repeated", "replace": "cr:replace", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
}  # fmt: skip
_TYPES = {
    ".parquet": "application/vnd.apache.parquet", ".jsonl": "application/jsonlines", ".safetensors": "application/octet-stream",
    ".md": "text/markdown", ".toml": "application/toml", ".c2pa": "application/c2pa",
}  # fmt: skip
_URL = re.compile(r"[a-z][a-z0-9+.-]{0,31}:[^\s<>\"{}|\\^`]{1,2000}")
_MAX_TEXT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """What a data set says of itself, in its metadata and on its card.

    Attributes:
        name: A short name.
        description: In a sentence or more.
        license: A name of SPDX's list, such as ``cc-by-4.0``.
        creator: Who made it.
        url: Where it is found; empty for the folder itself.
        derived_from: What it was made from: digests ``sha256:…``, names on a hub, or addresses.
        models: The models that generated it, by digest or name; none for data of people alone.
        language: Codes of the languages in it, such as ``en``.
        records: Number of records, or ``None`` where it isn't known.
        published: Date ``2026-01-31``; empty for today.
        version: Three numbers.

    Raises:
        ConfigError: No name, description, license or creator, or a text that can't be meant.
    """

    name: str
    description: str
    license: str
    creator: str
    url: str = ""
    derived_from: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    records: int | None = None
    published: str = ""
    version: str = "1.0.0"

    def __post_init__(self) -> None:
        for field in ("name", "description", "license", "creator"):
            if not getattr(self, field).strip():
                raise ConfigError(f"the data set's {field} is empty", hint=f"--{field} says it")
        texts = (self.name, self.description, self.license, self.url, self.creator, *self.derived_from, *self.models, *self.language)
        for text in texts:
            if len(text) > _MAX_TEXT or any(not (c.isprintable() or c in "\n\t") for c in text):
                raise ConfigError(f"the data set's metadata hold {text[:80]!r}, expected up to {_MAX_TEXT:,} printable characters")
        if not re.fullmatch(r"\d{1,6}\.\d{1,6}\.\d{1,6}", self.version):
            raise ConfigError(f"the data set's version is {self.version[:40]!r}, expected three numbers", hint="for example 1.0.0")
        if self.records is not None and self.records < 0:
            raise ConfigError(f"the data set has {self.records} records, expected 0 or more")
        try:
            _ = self.published and dt.date.fromisoformat(self.published)
        except ValueError as error:
            raise ConfigError(f"the date is {self.published[:40]!r}, expected one such as 2026-01-31") from error


def write_croissant(folder: Path, facts: DatasetFacts) -> Path:
    """Write ``croissant.json`` into a folder: every file with its size and SHA-256, and where the data come from.

    Args:
        folder: The data set: plain files and folders, no links. Its own metadata and signature are left out.
        facts: What it says of itself.

    Raises:
        DataError: No folder, no files, or a link.
        StorageError: The disk refused.

    Examples:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> from studbook.provenance import DatasetFacts, write_croissant
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "train.txt").write_text("a text")
        >>> parent = "sha256:" + 64 * "a"
        >>> said = {"description": "Made up.", "license": "cc0-1.0", "creator": "Example Laboratory"}
        >>> facts = DatasetFacts(name="texts", derived_from=(parent,), models=("m",), **said)
        >>> made = json.loads(write_croissant(folder, facts).read_text())
        >>> made["distribution"][0]["contentUrl"], made["prov:wasDerivedFrom"]["@id"][:20]
        ('train.txt', 'urn:sha256:aaaaaaaaa')
    """
    names = [name for name in sorted(file_names(folder)) if name not in {CROISSANT, SIGNATURE, ".lock"}]
    if not names:
        raise DataError(f"{folder} holds no files to describe")
    published = facts.published or dt.datetime.now(dt.UTC).date().isoformat()
    made: dict[str, Any] = {
        "@context": _CONTEXT, "@type": "sc:Dataset", "conformsTo": CONFORMS, "name": facts.name, "description": facts.description,
        "license": _license(facts.license), "version": facts.version, "datePublished": published,
        "url": facts.url or "./", "creator": {"@type": "sc:Organization", "name": facts.creator},
    }  # fmt: skip
    made |= {"inLanguage": list(facts.language)} if facts.language else {}
    if facts.derived_from:
        made["prov:wasDerivedFrom"] = _one_or_all([_entity(each) for each in facts.derived_from])
    if facts.models:
        made["prov:wasGeneratedBy"] = _generation(facts)
    made["distribution"] = [_file(folder, name) for name in names]
    write_file(folder / CROISSANT, (json.dumps(made, indent=2, ensure_ascii=False) + "\n").encode())
    return folder / CROISSANT


def _file(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    kind = _TYPES.get(path.suffix.lower()) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {
        "@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": kind, "sha256": file_sum(path),
    }  # fmt: skip


def _generation(facts: DatasetFacts) -> dict[str, Any]:
    agents = [{"@type": "prov:SoftwareAgent", **_entity(each)} for each in facts.models]
    return {"@type": "prov:Activity", "prov:label": "sampling from a model", "prov:wasAssociatedWith": _one_or_all(agents)}


def _entity(text: str) -> dict[str, Any]:
    """What is named, by an address: a digest as a URN, an address as it is, and any other name as a label."""
    if re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        return {"@id": f"urn:{text}"}
    return {"@id": text} if _URL.fullmatch(text) else {"@type": "prov:Entity", "prov:label": text}


def _license(text: str) -> str:
    return text if _URL.fullmatch(text) else f"https://spdx.org/licenses/{text}"


def _one_or_all(found: Sequence[Any]) -> Any:
    return found[0] if len(found) == 1 else list(found)
