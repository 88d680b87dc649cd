"""Responses of real people: a CSV of ordered categories, and the scales it belongs to.

The first line names the items; each further line is one respondent. A cell is a whole number, an
ordered category from any start, or missing: empty or ``NA``. Spaces around a cell are ignored.

A scales file (TOML) says which items form a family, and which are keyed the other way::

    [openness]
    items = ["O1", "O2", "O3", "O4"]
    reversed = ["O2"]
    traits = { ideas = ["O1", "O2"], art = ["O3", "O4"] }

``traits`` says which items ask for the same, where a family's traits are several and correlated.
Columns that no scale names are left alone, whatever they hold. Without scales all columns form one
family, named after the file.
"""

import array
import csv
import io
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from events.model import Family, Name
from infra.errors import ResponsesError

CATEGORIES_MAX = 50
"""An item with more is a measurement or an identifier, not an ordered response."""

GROUPS_MAX = 10
"""More groups than that are compared by nobody, and each costs a model."""

_MISSING = -(2**62)
_MISSING_WORDS = ("", "NA")
_CATEGORY = re.compile(r"[+-]?[0-9]{1,6}")
_NAME = TypeAdapter(Name)


@dataclass(frozen=True, eq=False)
class ResponsesFile:
    """What a responses file holds of the items that were asked for.

    Attributes:
        items: Names of the columns, shape (n_items,).
        cells: Categories, int64, shape (n_respondents, n_items); 0 where missing.
        missing: Which cells hold no answer, bool, same shape.
        families: The items that are calibrated together.
        notes: What a reader of the results should know about the file, one line each.
    """

    items: tuple[str, ...]
    cells: NDArray[np.int64]
    missing: NDArray[np.bool_]
    families: tuple[Family, ...]
    notes: tuple[str, ...] = ()

    @property
    def respondents(self) -> int:
        """Data rows, those without any answer included: respondent i is row i."""
        return len(self.cells)

    @property
    def silent(self) -> tuple[int, ...]:
        """Data rows, from 1, that hold no answer at all; they add nothing to any count."""
        return tuple(int(row) + 1 for row in np.flatnonzero(self.missing.all(axis=1)))

    def answers(self, respondent: int, items: Sequence[str]) -> dict[str, int]:
        """A respondent's categories, by item; missing answers are left out.

        Raises:
            ResponsesError: No such respondent or item.
        """
        if not 0 <= respondent < self.respondents:
            raise ResponsesError(
                f"respondent {respondent} is not in the file: it has 0 to {self.respondents - 1}"
            )
        columns = [(item, self._column(item)) for item in items]
        return {
            item: int(self.cells[respondent, column])
            for item, column in columns
            if not self.missing[respondent, column]
        }

    def _column(self, item: str) -> int:
        if item not in self.items:
            raise ResponsesError(f"item {item!r} is not in the file: {_shown(self.items)}")
        return self.items.index(item)


def read_responses(
    data: bytes, *, scales: bytes | None, source: str, groups: str | None = None
) -> ResponsesFile:
    """Read and check a responses file with its scales.

    Respondents without an answer stay in the rows, so that respondent i is data row i, and are
    named in the notes.

    Args:
        data: The CSV: commas, UTF-8 (a byte order mark is skipped), any line ends.
        scales: The TOML; without it one family of all columns, named after the source.
        source: The file's name, for errors and for the family's name.
        groups: The column that says who is in which group; no item of a family.

    Raises:
        ResponsesError: Naming row, line, column and value, or the scale, and the way out.
    """
    header = _header(data, source)
    others = tuple(name for name in header if name != groups)
    families = (_one_family(others, source),) if scales is None else _families(scales, header)
    if groups is not None:
        _check_groups(data, groups, families, source)
    items = tuple(item for family in families for item in family.items)
    file = read_items(data, items, source=source)
    _refuse_useless_items(file, source)
    unused = tuple(name for name in header if name not in items and name != groups)
    notes = _silent_note(file) + ((f"columns in no scale: {_shown(unused)}",) if unused else ())
    return ResponsesFile(items, file.cells, file.missing, families, notes)


def read_items(data: bytes, items: Sequence[str], *, source: str) -> ResponsesFile:
    """Read some columns of a responses file; the others may hold anything.

    Raises:
        ResponsesError: A column is not there, or a cell of one is not a category.
    """
    header = _header(data, source)
    unknown = [item for item in items if item not in header]
    if unknown:
        raise ResponsesError(
            f"{source}: there is no column {unknown[0]!r}: the columns are {_shown(header)}"
        )
    columns = [header.index(item) for item in items]
    categories = _Categories()
    numbers = array.array("q")
    for row, line, cells in _data_rows(data, source, width=len(header)):
        try:
            numbers.extend([categories[cells[column]] for column in columns])
        except ValueError:
            raise _bad_cell(source, row, line, header, columns, cells) from None
    table = np.frombuffer(numbers, np.int64).reshape(-1, len(columns))
    missing = table == _MISSING
    return ResponsesFile(tuple(items), np.where(missing, 0, table), missing, families=())


def read_labels(data: bytes, column: str, *, source: str) -> tuple[str | None, ...]:
    """A column as it stands, for each respondent; None where it is empty or ``NA``.

    Raises:
        ResponsesError: The column is not there.
    """
    header = _header(data, source)
    if column not in header:
        raise ResponsesError(
            f"{source}: there is no column {column!r}: the columns are {_shown(header)}"
        )
    place = header.index(column)
    cells = (cells[place].strip() for *_, cells in _data_rows(data, source, width=len(header)))
    return tuple(None if cell in _MISSING_WORDS else cell for cell in cells)


def _check_groups(data: bytes, column: str, families: Sequence[Family], source: str) -> None:
    """Groups are compared, so there must be two or more, none of them too many or too small."""
    for family in families:
        if column in family.items:
            raise ResponsesError(
                f"{source}: column {column!r} is an item of [{family.family}], so it can't say "
                "who is in which group: name another column"
            )
    sizes = Counter(label for label in read_labels(data, column, source=source) if label)
    if not 2 <= len(sizes) <= GROUPS_MAX:
        raise ResponsesError(
            f"{source}: column {column!r} has {len(sizes)} groups ({_shown(tuple(sizes))}): give "
            f"2 to {GROUPS_MAX}"
        )
    label, fewest = sizes.most_common()[-1]
    if fewest < 2:
        raise ResponsesError(
            f"{source}: column {column!r}: group {label!r} has one respondent: give each group "
            "two or more, or leave the cell empty"
        )


class _Categories(dict[str, int]):
    """Cells by their text; each text is judged once."""

    def __missing__(self, text: str) -> int:
        stripped = text.strip()
        if stripped not in _MISSING_WORDS and not _CATEGORY.fullmatch(stripped):
            raise ValueError(text)
        self[text] = _MISSING if stripped in _MISSING_WORDS else int(stripped)
        return self[text]


# --- rows ----------------------------------------------------------------------------------


def _lines(data: bytes, source: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the number of the line that it ends on; empty lines at the end left out."""
    reader = csv.reader(io.StringIO(_text(data, source), newline=""), strict=True)
    empty: list[int] = []
    try:
        for cells in reader:
            if not cells:
                empty.append(reader.line_num)
                continue
            if empty:
                raise ResponsesError(f"{source}: line {empty[0]} is empty: remove it")
            yield reader.line_num, cells
    except csv.Error as error:
        raise ResponsesError(
            f"{source}: line {reader.line_num} is not CSV ({error}): check its quotes"
        ) from error


def _text(data: bytes, source: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ResponsesError(
            f"{source}: line {line} holds the byte 0x{data[error.start]:02x}, which is not UTF-8: "
            "save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ResponsesError(f"{source}: line {line} holds a NUL: save the file as UTF-8 text")
    return text


def _data_rows(data: bytes, source: str, *, width: int) -> Iterator[tuple[int, int, list[str]]]:
    """Data row from 1, line, cells."""
    lines = _lines(data, source)
    next(lines)
    for row, (line, cells) in enumerate(lines, start=1):
        if len(cells) != width:
            raise ResponsesError(
                f"{source}: row {row} (line {line}) has {len(cells)} cells, the header has "
                f"{width}: give one cell per column, empty or NA where an answer is missing"
            )
        yield row, line, cells


def _header(data: bytes, source: str) -> tuple[str, ...]:
    first = next(_lines(data, source), None)
    if first is None:
        raise ResponsesError(f"{source}: the file is empty: give a header of item names, then rows")
    names = tuple(cell.strip() for cell in first[1])
    _refuse_other_delimiter(names, source)
    for column, name in enumerate(names, start=1):
        if not name:
            raise ResponsesError(
                f"{source}: line 1: column {column} has no name: name it or remove it (R writes "
                "one for row names: use row.names = FALSE)"
            )
        if name in names[: column - 1]:
            raise ResponsesError(
                f"{source}: line 1: column {column} is named {name!r} as is column "
                f"{names.index(name) + 1}: rename one"
            )
    return names


def _refuse_other_delimiter(names: tuple[str, ...], source: str) -> None:
    for delimiter, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(names) == 1 and delimiter in names[0]:
            raise ResponsesError(
                f"{source}: line 1 is separated by {word}: save the file separated by commas"
            )


def _bad_cell(
    source: str,
    row: int,
    line: int,
    header: Sequence[str],
    columns: Sequence[int],
    cells: Sequence[str],
) -> ResponsesError:
    for column in columns:
        try:
            _Categories()[cells[column]]
        except ValueError:
            break
    return ResponsesError(
        f"{source}: row {row} (line {line}), column {header[column]}: "
        f"{_clipped(cells[column])} is not a category: give a whole number of at most six digits, "
        "or nothing or NA where the answer is missing"
    )


# --- families ------------------------------------------------------------------------------


def family_name_of(source: str) -> str:
    """A family's name from a file's: its stem, other characters than letters, digits, _.- as _.

    ``responses`` where that gives no name that starts with a letter.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", PurePosixPath(source).stem)[:63]
    return name if re.match(r"[A-Za-z]", name) else "responses"


def _one_family(header: tuple[str, ...], source: str) -> Family:
    for column, name in enumerate(header, start=1):
        _refuse_bad_name(name, f"{source}: line 1: column {column}")
    _refuse_single(header, source)
    return Family(family=family_name_of(source), items=header)


def _families(scales: bytes, header: tuple[str, ...]) -> tuple[Family, ...]:
    families = tuple(_family(name, table, header) for name, table in _tables(scales).items())
    owner: dict[str, str] = {}
    for family in families:
        for item in family.items:
            if item in owner:
                raise ResponsesError(
                    f"scales: item {item!r} is in [{owner[item]}] and in [{family.family}]: "
                    "give each item to one scale"
                )
            owner[item] = family.family
    return families


def _tables(scales: bytes) -> dict[str, object]:
    try:
        tables = tomllib.loads(scales.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ResponsesError(f"scales: the file is not TOML: {error}") from error
    if not tables:
        raise ResponsesError("scales: the file names no scale: add [name] and items = [...]")
    return tables


def _family(name: str, table: object, header: tuple[str, ...]) -> Family:
    place = f"scales: [{name}]"
    _refuse_bad_name(name, place)
    if not isinstance(table, dict):
        raise ResponsesError(
            f"scales: {name} = {_clipped(table)} is not a scale: write [name], then items = [...]"
        )
    unknown = sorted(set(table) - {"items", "reversed", "traits"})
    if unknown:
        raise ResponsesError(
            f"{place} has {unknown[0]!r}: only items, reversed and traits are known"
        )
    items = _names(table.get("items"), f"{place} items")
    turned = _names(table.get("reversed", []), f"{place} reversed")
    for item in items:
        if item not in header:
            raise ResponsesError(
                f"{place} names the item {item!r}, which is no column of the responses: "
                f"{_shown(header)}"
            )
    for item in turned:
        if item not in items:
            raise ResponsesError(f"{place} reverses {item!r}, which is not in its items")
    _refuse_single(items, place)
    traits = _traits(table["traits"], items, place) if "traits" in table else ()
    return Family(family=name, items=items, reversed=turned, traits=traits)


def _traits(table: object, items: tuple[str, ...], place: str) -> tuple[str, ...]:
    """Each item's trait, in the order of the items."""
    if not isinstance(table, dict) or not table:
        raise ResponsesError(
            f"{place} traits is {_clipped(table)}: name each trait's items, "
            "traits = { first = ['O1', 'O2'], second = ['O3', 'O4'] }"
        )
    owner: dict[str, str] = {}
    for trait, named in table.items():
        _refuse_bad_name(trait, f"{place} traits")
        for item in _names(named, f"{place} traits.{trait}"):
            if item not in items:
                raise ResponsesError(
                    f"{place} traits.{trait} names {item!r}, which is not in its items"
                )
            if item in owner:
                raise ResponsesError(
                    f"{place} item {item!r} is in the traits {owner[item]} and {trait}: give each "
                    "item to one trait"
                )
            owner[item] = trait
    homeless = [item for item in items if item not in owner]
    if homeless:
        raise ResponsesError(
            f"{place} traits leave out {_shown(homeless)}: give each item of the scale to a trait"
        )
    return tuple(owner[item] for item in items)


def _names(value: object, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ResponsesError(f"{place} is {_clipped(value)}: give a list of names, ['O1', 'O2']")
    for index, name in enumerate(value):
        _refuse_bad_name(name, place)
        if name in value[:index]:
            raise ResponsesError(f"{place} names {name!r} twice: name it once")
    return tuple(value)


# --- refusals ------------------------------------------------------------------------------


def _refuse_bad_name(name: str, place: str) -> None:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        raise ResponsesError(
            f"{place}: {_clipped(name)} can't be a name: use a letter, then up to 62 letters, "
            "digits, dots, dashes and underscores"
        ) from None


def _refuse_single(items: Sequence[str], place: str) -> None:
    if len(items) < 2:
        raise ResponsesError(
            f"{place}: items: {len(items)}, and at least 2 are needed to say something of a trait"
        )


def _refuse_useless_items(file: ResponsesFile, source: str) -> None:
    if file.respondents == 0:
        raise ResponsesError(f"{source}: there is no row below the header: add respondents")
    for column, item in enumerate(file.items):
        seen = np.unique(file.cells[~file.missing[:, column], column])
        match seen.size:
            case 0:
                reason = "nobody answered it"
            case 1:
                reason = f"every answer is {seen[0]}, so it tells nobody apart"
            case many if many > CATEGORIES_MAX:
                reason = f"it has {many} categories, more than {CATEGORIES_MAX}"
            case _:
                continue
        raise ResponsesError(
            f"{source}: column {item}: {reason}: remove it, or leave it out with a scales file"
        )


def _silent_note(file: ResponsesFile) -> tuple[str, ...]:
    if not file.silent:
        return ()
    rows = _shown([str(row) for row in file.silent])
    return (f"respondents without an answer, not counted: {len(file.silent)} (rows {rows})",)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")


def _clipped(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…{text[-1]}"
