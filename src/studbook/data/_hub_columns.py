"""Columns of a table of the library ``datasets`` as records."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from studbook.arrays import AnyArray, Batch, Ints
from studbook.data._files import require_bytes
from studbook.data._records import Selection, batch_of_array, images_of_array
from studbook.errors import ConfigError, DataError, MissingExtraError
from studbook.parameters import nearest
from studbook.pictures import FORMATS, MAX_PIXELS, rgb_of, upper_byte_of

Kind: TypeAlias = Literal["text", "images", "numbers", "states", "counts"]
# Rows that are in memory at once while a column is read.
ROWS = 1000


def require_package(package: str, module: str, install: str) -> None:
    """Refuse to go on without a package; the hint is the pip line."""
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(f"a data set of the hub needs the package {package}, which isn't installed", hint=install)


def kind_of(table: Any, columns: Sequence[str], where: str) -> Kind:
    """What a record is: a picture where there is a column of them, else text where there are texts, else numbers."""
    names = _chosen(table, columns, where)
    if _of_type(table, names, "Image"):
        return "images"
    return "text" if _texts(table, names) else "numbers"


def text_column(table: Any, columns: Sequence[str], where: str) -> str:
    """The one column of texts.

    Raises:
        ConfigError: There is none, or more than one and none of them is named ``text``.
    """
    return _only(_texts(table, _chosen(table, columns, where)), "texts", "text", table, where)


def image_column(table: Any, columns: Sequence[str], where: str) -> str:
    """The one column of pictures; see ``text_column``."""
    return _only(_of_type(table, _chosen(table, columns, where), "Image"), "pictures", "image", table, where)


def lines(table: Any, column: str) -> Iterator[str]:
    """The texts of a column, each on a line of its own; missing ones are empty."""
    for rows in _parts(table, [column]):
        yield "".join(text if text.endswith("\n") else text + "\n" for text in (row or "" for row in rows[column]))


def labels_of(table: Any, name: str, where: str) -> Ints | None:
    """The class of each row: whole numbers as they are, texts numbered in alphabetical order.

    Raises:
        ConfigError: No column of that name, or one that holds no classes.
        DataError: A row without a class.
    """
    known = table.column_names
    if name and name not in known:
        raise ConfigError(f"{where} has no column {name!r}", hint=nearest(name, known, noun="column"))
    column = name or next((usual for usual in ("label", "labels") if usual in known), "")
    if not column:
        return None
    values = np.array([value for rows in _parts(table, [column]) for value in rows[column]], dtype=object)
    missing = [row for row, value in enumerate(values) if value is None]
    if missing and not name:
        return None
    if missing:
        raise DataError(f"{where}: column {column!r} has no class in row {missing[0]}", hint="rows are counted from 0")
    if all(isinstance(value, str) for value in values):
        return np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)
    if all(isinstance(value, int) for value in values):
        return values.astype(np.int64)
    if not name:
        return None
    raise ConfigError(f"{where}: column {column!r} holds no classes", hint="choose a column of whole numbers or texts with data.labels")


def pictures(table: Any, column: str, labels: Ints | None, selection: Selection, where: str) -> Batch:
    """Pictures of one size: as ``(n, h, w)`` where the first is grey, else as ``(n, h, w, 3)``, 0 to 255.

    Of 16-bit grey the upper byte is taken; transparent pixels keep their colour, as in ``studbook.pictures.read_picture``.

    Raises:
        DataError: A picture that can't be read, is missing, is an animation, has numbers beyond 16 bits, has another size than the
            first, or is coloured after a grey one; or too many.
    """
    require_package("pillow", "PIL", "pip install pillow")
    from datasets import Image

    # Undecoded: sizes are looked at before any picture is unpacked.
    plain = table.cast_column(column, Image(decode=False))
    rows = np.arange(len(plain))
    if labels is not None or not selection.classes:
        rows, labels = Selection(selection.classes, selection.limit).of(rows, labels, where)
    out: AnyArray | None = None
    for position, row in enumerate(rows.tolist()):
        pixels = _pixels(plain[row][column], f"{where}, row {row}", None if out is None else out.shape[1:])
        if out is None:
            require_bytes(where, 8 * pixels.size * len(rows), selection.max_bytes)
            out = np.empty((len(rows), *pixels.shape), np.uint8)
        out[position] = pixels
    assert out is not None  # Selection refuses no rows
    return images_of_array(out, labels, where, (0.0, 255.0))


def numbers_of(
    table: Any, columns: Sequence[str], labels: Ints | None, kind: Literal["numbers", "states", "counts"], selection: Selection, where: str
) -> Batch:
    """Columns of numbers side by side, or one column of states or counts.

    Raises:
        ConfigError: No such column, no numbers, or more than one column of states or counts.
        DataError: Values that are missing, no finite numbers, or too many.
    """
    names = _chosen(table, columns, where)
    numeric = [name for name in names if _is_number(table.features[name])]
    odd = sorted(set(columns) - set(numeric))
    if odd or not numeric:
        said = f"column {odd[0]!r} holds {_type(table, odd[0])}" if odd else f"there is no column of numbers in {_listed(table)}"
        raise ConfigError(f"{where}: {said}, expected numbers", hint="choose number columns with data.columns")
    if kind != "numbers" and len(numeric) != 1:
        raise ConfigError(f"{where}: {len(numeric)} columns of numbers, expected one", hint='choose it with data.columns = ["name"]')
    require_bytes(where, 8 * len(table) * len(numeric), selection.max_bytes)
    read = [[np.array(rows[name], dtype=np.float64) for name in numeric] for rows in _parts(table, numeric)]
    values = np.concatenate([np.stack(part, axis=1) for part in read])
    batch = batch_of_array(values if kind == "numbers" else values[:, 0], labels, kind, selection, where)
    if kind == "numbers":
        from dataclasses import replace

        return replace(batch, space=replace(batch.space, columns=tuple(numeric)))
    return batch


def _pixels(cell: Any, where: str, expected: tuple[int, ...] | None) -> NDArray[np.uint8]:
    from PIL import Image

    if not cell or not (cell.get("bytes") or cell.get("path")):
        raise DataError(f"{where} has no picture", hint="rows are counted from 0")
    where = f"{where} ({Path(cell['path']).name})" if cell.get("path") else where
    try:
        with Image.open(io.BytesIO(cell["bytes"]) if cell.get("bytes") else Path(cell["path"]), formats=FORMATS) as opened:
            _require_one_kind(opened, where, expected)
            pixels = _bytes_of(opened, where)
            return np.repeat(pixels[:, :, None], 3, axis=2) if expected is not None and pixels.ndim < len(expected) else pixels
    except Image.DecompressionBombError as error:  # Pillow's own limit, by the header
        raise _too_large(where, "far more pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        hint = "the file is damaged or cut off, or no " + ", ".join(FORMATS)
        raise DataError(f"{where} can't be read as a picture: {str(error)[:200]}", hint=hint) from error


def _require_one_kind(opened: Any, where: str, expected: tuple[int, ...] | None) -> None:
    """Refuse by its header a picture that is too large, several pictures, of another size than the first, or coloured after grey."""
    if opened.height * opened.width > MAX_PIXELS:
        raise _too_large(where, f"{opened.width:,} x {opened.height:,} pixels")
    # A photograph with a preview behind it (MPO) is one picture.
    if getattr(opened, "is_animated", False) and opened.format != "MPO":
        message = f"{where} holds {opened.n_frames} pictures (frames, pages or layers), expected one"
        raise DataError(message, hint="store each as a picture of its own")
    if expected is None:
        return
    if (opened.height, opened.width) != expected[:2]:
        message = f"{where} has {opened.width} x {opened.height} pixels, the first has {expected[1]} x {expected[0]}"
        raise DataError(message, hint="pictures have to be of one size; scale them first")
    if len(expected) == 2 and not _is_grey(opened.mode):
        message = f"{where} is coloured (Pillow's mode {opened.mode}), the first is grey"
        raise DataError(message, hint="convert the pictures to one of both first, or put a coloured one in front: grey ones are made RGB")


def _bytes_of(opened: Any, where: str) -> NDArray[np.uint8]:
    """The pixels as bytes, ``(h, w)`` of grey ones and else ``(h, w, 3)``; transparent ones keep their colour."""
    if opened.mode in ("1", "L", "LA"):
        return np.asarray(opened.convert("L"))
    if not _is_grey(opened.mode):
        return rgb_of(opened)
    try:
        return upper_byte_of(opened)
    except DataError as error:
        message = f"{where}: {error}: Pillow's mode is {opened.mode}"
        raise DataError(message, hint="scale them to 0 ... 255 first, or store them as an array: .npy") from error


def _is_grey(mode: str) -> bool:
    return mode in ("1", "L", "LA") or mode.startswith(("I", "F"))


def _too_large(where: str, got: str) -> DataError:
    return DataError(f"{where} has {got}, expected at most {MAX_PIXELS:,}", hint="make it smaller first")


def _parts(table: Any, names: Sequence[str]) -> Iterator[Any]:
    """Some columns, a thousand rows at a time."""
    chosen = table.select_columns(list(names))
    for start in range(0, len(chosen), ROWS):
        yield chosen[start : start + ROWS]


def _chosen(table: Any, columns: Sequence[str], where: str) -> list[str]:
    known = list(table.column_names)
    for name in columns:
        if name not in known:
            raise ConfigError(f"{where} has no column {name!r}", hint=nearest(name, known, noun="column"))
    return list(columns) or known


def _only(found: Sequence[str], what: str, usual: str, table: Any, where: str) -> str:
    if len(found) == 1 or usual in found:
        return usual if usual in found else found[0]
    number = f"{len(found)} columns of {what} ({', '.join(found)})" if found else f"no column of {what}: it has {_listed(table)}"
    raise ConfigError(f"{where} has {number}", hint='choose one with data.columns = ["name"]')


def _texts(table: Any, names: Sequence[str]) -> list[str]:
    return [name for name in names if getattr(table.features[name], "dtype", "") in ("string", "large_string", "string_view")]


def _of_type(table: Any, names: Sequence[str], kind: str) -> list[str]:
    return [name for name in names if type(table.features[name]).__name__ == kind]


def _is_number(feature: Any) -> bool:
    return type(feature).__name__ in ("Value", "ClassLabel") and str(feature.dtype).startswith(("int", "uint", "float", "bool", "double"))


def _listed(table: Any) -> str:
    return ", ".join(f"{name} ({_type(table, name)})" for name in table.column_names[:10])


def _type(table: Any, name: str) -> str:
    feature = table.features[name]
    return str(getattr(feature, "dtype", type(feature).__name__))
