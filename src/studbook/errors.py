"""The error tree. Every error says what was got, what was expected and what to do."""

from __future__ import annotations

from typing import ClassVar


class StudbookError(Exception):
    """Root of every error that studbook raises on purpose.

    Attributes:
        code: Stable identifier; the docs have one page section per code.
        exit_code: What the command line exits with.
        hint: What to do about it, in one sentence, or ``None``.

    Examples:
        >>> from studbook.errors import ConfigError
        >>> str(ConfigError("samples is -3, expected 1 or more", hint="set study.samples"))
        'samples is -3, expected 1 or more (set study.samples)'
    """

    code: ClassVar[str] = "SB000"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = printable(message)
        self.hint = None if hint is None else printable(hint)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint)


def printable(text: str) -> str:
    """The text with what controls a terminal shown as an escape: messages quote what came from outside."""
    return (
        text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
    )


def _rebuild(kind: type[StudbookError], message: str, hint: str | None) -> StudbookError:
    return kind(message, hint=hint)


class ConfigError(StudbookError, ValueError):
    """A study file or an argument that can't be meant: unknown key, kind or metric, impossible size."""

    code = "SB101"
    exit_code = 2


class DataError(StudbookError, ValueError):
    """Data that can't be read, or that holds something no record may hold."""

    code = "SB201"


class FitError(StudbookError, ValueError):
    """A learner met data that it can't be fitted to; the message names the records."""

    code = "SB301"


class MetricError(StudbookError, ValueError):
    """A metric that doesn't fit the data, or that has no value on them."""

    code = "SB302"
    exit_code = 2


class CheckpointError(StudbookError, ValueError):
    """Stored weights that can't be read, were changed, or belong to another architecture."""

    code = "SB303"


class RunFolderError(StudbookError):
    """A run folder that isn't one, is damaged, or belongs to another config."""

    code = "SB401"


class FolderBusyError(RunFolderError):
    """Another process is running in this folder."""

    code = "SB402"


class SchemaVersionError(RunFolderError):
    """A run folder written by a newer studbook."""

    code = "SB403"


class StorageError(StudbookError, OSError):
    """The disk refused: full, read-only, or no permission."""

    code = "SB404"


class WorkerLostError(StudbookError):
    """A worker process died more often than is retried."""

    code = "SB501"


class UnitFailedError(StudbookError):
    """A unit raised something unexpected in its worker; the original error is the cause."""

    code = "SB502"


class MissingExtraError(StudbookError, ImportError):
    """An optional dependency that isn't installed; the hint is the pip line."""

    code = "SB601"


class DeviceError(StudbookError, RuntimeError):
    """A device that was asked for and isn't there."""

    code = "SB602"
    exit_code = 2


class DeviceMemoryError(StudbookError, MemoryError):
    """Main or graphics memory is used up; the message names the batch size and what to lower."""

    code = "SB603"


class DigestError(StudbookError, ValueError):
    """Digests of different schemes, bit strings of different widths, or what is no digest at all."""

    code = "SB701"
    exit_code = 2


class RecordError(StudbookError, ValueError):
    """A claim, ballot, receipt or calibration that isn't one: cut off, changed in form, oversized, or of an unknown version."""

    code = "SB702"


class SignatureError(StudbookError, ValueError):
    """A signature that doesn't belong to these bytes and this key; the message says what was changed."""

    code = "SB703"
    exit_code = 3


class KeyFileError(StudbookError, ValueError):
    """A key file that is missing, unreadable, or readable by others."""

    code = "SB704"
    exit_code = 2


class CalibrationError(StudbookError, ValueError):
    """A calibration that is too thin for the bound that was asked for, or that doesn't cover the claim."""

    code = "SB705"
    exit_code = 4


class BallotError(StudbookError, ValueError):
    """A ballot that doesn't count: from a stranger, cast twice, replayed, for another claim, or unsigned."""

    code = "SB706"


class VerifierError(StudbookError, RuntimeError):
    """A verifier that couldn't do its work; there is no ballot, and nobody's vote."""

    code = "SB707"


class EvidenceError(StudbookError, ValueError):
    """Evidence that contradicts the claim that it is for: other values than were committed to, or digests of another output."""

    code = "SB708"


class RegisterError(StudbookError, ValueError):
    """A register that isn't one, is damaged, or was written by a newer studbook; or an entry that it can't hold."""

    code = "SB801"


class RegisterUnavailableError(StudbookError, ConnectionError):
    """The register's database can't be reached, or went away; what was acknowledged is there."""

    code = "SB802"


class ProvenanceError(StudbookError, ValueError):
    """A content credential, a signed folder or its metadata that is forged, expired, untrusted, or belongs to other content."""

    code = "SB803"
    exit_code = 3


class QuotaError(StudbookError, ValueError):
    """A quota that these records can't meet; the message says which, and by how much."""

    code = "SB804"
    exit_code = 3


class InterruptedRunError(StudbookError):
    """The user pressed Ctrl-C; what was finished stays."""

    code = "SB130"
    exit_code = 130
