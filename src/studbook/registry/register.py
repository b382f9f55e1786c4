"""The register of known outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from studbook.errors import ConfigError, DataError
from studbook.records import Claim, DetectorCalibration, Digest, Entry, Origin, Receipt
from studbook.registry._batches import parts_of, without_collection
from studbook.registry.contents import Picture, Prints, fingerprint_pictures, fingerprint_texts
from studbook.registry.values import Added, Edge, Limit, Lineage, Match, Problem, Relation, Stats

if TYPE_CHECKING:
    from studbook.provenance import Signed
    from studbook.registry.indexes import Indexes
    from studbook.registry.store import Store

_PICTURES = 256


class Register:
    """Known outputs, by their bytes and by what is near; lineage, claims, verdicts and manifests. Open one with ``Register.open``.

    Writers in several processes wait for each other. What a call has added when it returns is on the disk; a call that fails or is
    killed leaves whole entries or none, and can be repeated: what is known is not entered twice.

    Assumes that whoever may write to the database tells the truth about origins; claims and receipts are signed, entries aren't.

    Attributes:
        location: File or server, without a password.
        index: Folder of the indexes.
        id: Its own random name.

    Examples:
        >>> import tempfile
        >>> from studbook.registry import Register
        >>> words = "a studbook is the register that keeps a captive population from inbreeding"
        >>> with Register.open(f"{tempfile.mkdtemp()}/outputs.db", create=True) as register:
        ...     added = register.add_texts([words], model="some-model")
        ...     same, near, other = register.find_texts([words, words + " too", "nothing like it at all"])
        >>> added, same[0].how, near[0].how, near[0].entry.model, other
        (Added(new=1, known=0), 'exact', 'near', 'some-model', ())
    """

    def __init__(self, store: Store, indexes: Indexes, id_: str) -> None:
        self._store, self._indexes = store, indexes
        self.location, self.index, self.id = store.location, indexes.folder, id_

    @classmethod
    def open(cls, location: str | Path, *, create: bool = False, index: Path | None = None) -> Register:
        """Open a register; one of an older studbook is brought up to date.

        Args:
            location: A path is a file (SQLite); ``postgresql://user@host:port/database`` a server, whose password may be in the address,
                in ``PGPASSWORD`` or in ``~/.pgpass``, and is never shown.
            create: Make it where there is none.
            index: Folder of the indexes, which are caches: by default ``NAME.index`` beside the file, of a server the user's cache folder.

        Raises:
            RegisterError: There is none, it is damaged, no register, or of a newer studbook.
            RegisterUnavailableError: The server can't be reached.
            ConfigError: An address that can't be read.
            StorageError: The disk refused.
        """
        from studbook.registry.opening import open_store

        store, folder, id_ = open_store(location, create=create)
        from studbook.registry.indexes import Indexes

        return cls(store, Indexes(index or folder, id_), id_)

    def __enter__(self) -> Register:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the database back; nothing is lost without it."""
        self._store.close()

    # Adding

    def add(self, entries: Iterable[Entry]) -> Added:
        """Add entries. Of those that are known, what they lack is filled in: parents, fingerprints, a manifest; nothing is overwritten.

        Raises:
            RegisterError: An entry that contradicts itself or the known one, or a parent that descends from its child.
            RegisterUnavailableError: The database went away; batches before that are in.
        """
        from studbook.registry.writing import BATCH, add_entries

        return sum((add_entries(self._store, part) for part in parts_of(entries, BATCH)), Added(0, 0))

    def add_texts(
        self, texts: Iterable[str] | Prints, *, origin: Origin = "generated", model: str = "", source: str = "", parents: Sequence[str] = ()
    ) -> Added:
        """Add texts by their SHA-256 and MinHash; see ``Entry`` for the rest. Texts are taken and committed some thousands at a time.

        Args:
            texts: Texts; or, if they are also looked up, ``fingerprint_texts`` of them, so that the work is done once.
            origin: Where they come from.
            model: Digest or name of the model that made them.
            source: Claim, study, or words.
            parents: Digests of what all of them were made from.

        Raises:
            DataError: Not texts, an empty one, one that is too long, or one with half a surrogate pair; texts before its batch are in.
            RecordError: A name that is too long, or a parent that is no digest.
            RegisterError: A parent that descends from one of them.
            RegisterUnavailableError: The database went away; batches before that are in.
        """
        from studbook.registry.writing import TEXTS

        _refuse_single(texts)
        found = [texts] if isinstance(texts, Prints) else (fingerprint_texts(part) for part in parts_of(texts, TEXTS))
        return self._add_prints(found, Entry(_NOTHING, "text", origin, model, source, parents=tuple(parents)))

    def add_images(
        self,
        pictures: Iterable[Picture] | Prints,
        *,
        origin: Origin = "generated",
        model: str = "",
        source: str = "",
        parents: Sequence[str] = (),
    ) -> Added:
        """Add pictures by their SHA-256, perceptual hash and PDQ; see ``add_texts``.

        Args:
            pictures: Files' bytes, or ``(h, w)`` or ``(h, w, 3)`` uint8; or ``fingerprint_pictures`` of them.
            origin: Where they come from.
            model: Digest or name of the model that made them.
            source: Claim, study, or words.
            parents: Digests of what all of them were made from.

        Raises:
            DataError: Not pictures; those before its batch are in.
            MissingExtraError: Files, and Pillow isn't installed.
            RecordError: A name that is too long, or a parent that is no digest.
            RegisterError: A parent that descends from one of them.
            RegisterUnavailableError: The database went away; batches before that are in.
        """
        _refuse_single(pictures)
        found = [pictures] if isinstance(pictures, Prints) else (fingerprint_pictures(part) for part in parts_of(pictures, _PICTURES))
        return self._add_prints(found, Entry(_NOTHING, "image", origin, model, source, parents=tuple(parents)))

    def _add_prints(self, several: Iterable[Prints], example: Entry) -> Added:
        from studbook.registry.writing import Source, add_prints

        if example.origin not in ("generated", "human", "unknown"):
            raise ConfigError(f"the origin is {str(example.origin)[:80]!r}, expected generated, human or unknown")
        source, total = Source(example.kind, example.origin, example.model, example.source), Added(0, 0)
        for found in several:
            if found.kind != example.kind:
                raise DataError(f"the fingerprints are those of {found.kind}s, expected {example.kind}s")
            if len(found):
                with without_collection():
                    total += add_prints(self._store, found, source, example.parents)
        return total

    # Finding

    def find_texts(self, texts: Iterable[str] | Prints, *, with_manifest: bool = False) -> list[tuple[Match, ...]]:
        """Entries with the same text, and with a near one; for each text the exact ones first, then the nearest, at most 64.

        Args:
            texts: Texts, or ``fingerprint_texts`` of them.
            with_manifest: Only entries that have a content credential count, however many others are nearer.

        Raises:
            DataError: Not texts.
            RegisterUnavailableError: The database went away.
        """
        _refuse_single(texts)
        return self._find(texts if isinstance(texts, Prints) else fingerprint_texts(texts), with_manifest)

    def find_images(self, pictures: Sequence[Picture] | Prints, *, with_manifest: bool = False) -> list[tuple[Match, ...]]:
        """Entries with the same picture, and those within the limit of its perceptual hash or PDQ; see ``find_texts``.

        Raises:
            DataError: Not pictures.
            MissingExtraError: Files, and Pillow isn't installed.
            RegisterUnavailableError: The database went away.
        """
        _refuse_single(pictures)
        return self._find(pictures if isinstance(pictures, Prints) else fingerprint_pictures(list(pictures)), with_manifest)

    def _find(self, prints: Prints, with_manifest: bool) -> list[tuple[Match, ...]]:
        from studbook.registry.searching import find_prints, matches

        with without_collection():
            return matches(self._store, find_prints(self._store, self._indexes, prints, with_manifest=with_manifest))

    def find_digests(
        self, digests: Iterable[Digest], radius: float | None = None, *, with_manifest: bool = False
    ) -> list[tuple[Match, ...]]:
        """Entries near each digest.

        Args:
            digests: Of any scheme that is compared by bits, ``minhash``, or ``text_exact``.
            radius: Largest distance by the scheme's measure; ``None`` takes the register's limit.
            with_manifest: Only entries that have a content credential count.

        Raises:
            RegisterError: A scheme that can't be looked up, or one without a limit.
            RegisterUnavailableError: The database went away.
        """
        from studbook.registry.searching import find_digests, matches

        return matches(self._store, find_digests(self._store, self._indexes, list(digests), radius, with_manifest=with_manifest))

    def get(self, content: str) -> tuple[Entry, ...]:
        """All entries of a content, ``sha256:…``; parents are sorted. None where it isn't known.

        Raises:
            RegisterError: No digest.
        """
        from studbook.registry.reading import entries_by_id, ids_by_content
        from studbook.registry.signed import name_bytes

        with self._store.read() as connection:
            ids = [i for found in ids_by_content(self._store, connection, [name_bytes(content, "a content")]).values() for i in found]
            found = entries_by_id(self._store, connection, ids)
            return tuple(found[i] for i in ids)

    # Limits

    def limit(self, scheme: str) -> Limit | None:
        """What counts as near by a scheme: the register's own limit, else the default, else ``None``.

        Raises:
            ConfigError: No fingerprint's name.
        """
        from studbook.registry.limits import check_scheme
        from studbook.registry.signed import limit_of

        check_scheme(scheme)
        with self._store.read() as connection:
            return limit_of(connection, scheme)

    def set_limit(self, scheme: str, limit: float, calibration: DetectorCalibration | None = None) -> None:
        """Say what counts as near from now on.

        Args:
            scheme: The fingerprint's name.
            limit: Largest distance by its measure: bits, or for ``minhash`` 0 … 1.
            calibration: What it rests on; its threshold must be the limit, and its detector ``register-SCHEME``.

        Raises:
            ConfigError: No such limit, or a calibration of something else.
        """
        from studbook.registry.limits import check_limit
        from studbook.registry.signed import put_limit

        check_limit(scheme, limit, calibration)
        put_limit(self._store, scheme, limit, calibration)

    # Lineage

    def link(self, child: str, parent: str, relation: Relation) -> None:
        """State a step of descent between contents, models or data sets, by digest or name; repeating it changes nothing.

        Raises:
            RegisterError: No such relation, a name that is too long, or the parent descends from the child.
        """
        from studbook.registry.lineage import add_edge

        add_edge(self._store, Edge(child, parent, relation))

    def lineage(self, id_: str) -> Lineage:
        """Where something comes from, and what came of it: stated steps, parents of entries, and the models that generated them.

        Raises:
            RegisterError: No digest and no name.
        """
        from studbook.registry.lineage import lineage_of

        return lineage_of(self._store, id_)

    # Signed records and manifests

    def add_claim(self, data: bytes) -> str:
        """Keep a signed claim; gives its ``id``.

        Raises:
            RecordError: No claim.
            SignatureError: It was changed after it was signed.
        """
        from studbook.registry.signed import put_claim

        return put_claim(self._store, data)

    def add_verdict(self, data: bytes) -> str:
        """Keep a signed receipt, and the claim in it; gives the receipt's ``id``. Who voted is for ``studbook claim check`` to judge.

        Raises:
            RecordError: No receipt, or one on another claim than the one in it.
            SignatureError: It was changed after it was signed.
        """
        from studbook.registry.signed import put_verdict

        return put_verdict(self._store, data)

    def claim(self, id_: str) -> Signed[Claim]:
        """A claim by its ``id``, signature checked again.

        Raises:
            RegisterError: There is none.
        """
        from studbook.registry.signed import claim_of

        return claim_of(self._store, id_)

    def verdicts(self, claim: str) -> tuple[Signed[Receipt], ...]:
        """The receipts on a claim, signatures checked again.

        Raises:
            RegisterError: No digest.
        """
        from studbook.registry.signed import verdicts_on

        return verdicts_on(self._store, claim)

    def put_manifest(self, data: bytes) -> str:
        """Keep a content credential of up to 16 MiB; gives its SHA-256, ``sha256:…``, for ``Entry.manifest``.

        Raises:
            RegisterError: Empty, or too large.
        """
        from studbook.registry.signed import put_manifest

        return put_manifest(self._store, data)

    def manifest(self, id_: str) -> bytes:
        """A content credential by its SHA-256.

        Raises:
            RegisterError: There is none.
        """
        from studbook.registry.signed import manifest_of

        return manifest_of(self._store, id_)

    # The whole

    def stats(self) -> Stats:
        """How much there is."""
        from studbook.registry.counting import stats_of

        return stats_of(self._store, self.id)

    def sizes(self) -> dict[str, int]:
        """How many ``"entries"`` there are, and how many fingerprints by scheme; as fast in a large register as in a small one."""
        from studbook.registry.counting import sizes_of

        return sizes_of(self._store)

    def export(self, path: Path) -> int:
        """Write everything as JSON Lines of canonical records, whole or not at all; gives the number of records.

        Raises:
            StorageError: The disk refused.
        """
        from studbook.registry.export import export_register

        return export_register(self._store, Path(path))

    def import_(self, path: Path) -> Added:
        """Take in what ``export`` wrote; what is known stays.

        Raises:
            RegisterError: No such file, or one that was cut off or changed; what stood before the fault is in.
            RecordError: A line that is no record.
            SignatureError: A claim or receipt that was changed.
        """
        from studbook.registry.export import import_register

        return import_register(self._store, Path(path))

    def verify(self) -> list[Problem]:
        """What is wrong, at most 1,000 problems; an index that is wrong is thrown away, and made again at the next search."""
        from studbook.registry.verify import problems_of

        return problems_of(self._store, self._indexes)


_NOTHING = f"sha256:{64 * '0'}"


def _refuse_single(several: object) -> None:
    if isinstance(several, str | bytes):
        raise DataError(f"expected several outputs, got a single {type(several).__name__}", hint="put it into a list")
