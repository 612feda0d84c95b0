"""From the bytes of a CSV file to a table of text, whole or not at all.

Here: encoding, byte order mark, rows that have too few or too many fields, column names.
Not here: what the values have to be (`door.py`).
"""

import codecs
import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Name of the index: rows are counted as a spreadsheet does. The header is row 1, a blank line is a row, too, and a row
# whose quoted fields hold line breaks is one row.
ROW = "row"
FIRST_ROW = 2
SHOWN = 10  # bad rows that a message names
ENCODINGS = ("utf-8", "cp1252", "latin-1")  # the last takes any bytes
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class BadTable(ValueError):
    """A table that must not be learned from; the message names rows, columns and what to do."""


def read_csv(data: bytes, columns: Sequence[str], name: str) -> "pd.DataFrame":
    """All columns as text, missing values as None, the index counts rows; blank lines are left out. name: of the file,
    for messages.

    Raises BadTable for an empty file, other columns than these, rows with another number of fields, as a file has that
    was cut in the middle, and a last line that does not end.
    """
    text = _decoded(data, name)
    if not text.strip():
        raise BadTable(f"{name} is empty: save the table again")
    found = _header(text, name)
    _check_columns(found, columns, name)
    frame = _rows(text, found, name)
    if not len(frame):
        raise BadTable(f"{name} has a header and no rows: save the table again")
    _check_end(text, str(frame.iloc[-1, -1] or ""), name)
    return frame[list(columns)]


def _check_end(text: str, last: str, name: str) -> None:
    """Raises BadTable where the last value may be the half of one. last: that value.

    A file that was cut in its last value and one that some programs save without a last line break look alike: 12.9 may
    be all, or the beginning of 12.948. So neither is taken: who has a whole file adds a line break, once, whereas a
    wrong number would never be seen.
    """
    line = text.rstrip("\r\n")
    if line == text:
        raise BadTable(
            f"{name} does not end with a line break, so its last value may have been cut: it ends with {line[-40:]!r}. "
            "If it is whole, add a line break at its end; else copy or save it again"
        )
    if ("\n" in last or "\r" in last) and not line.endswith('"'):
        raise BadTable(f"{name} ends within quotes, {line[-40:]!r}: it was cut; copy or save it again")


def _decoded(data: bytes, name: str) -> str:
    if data.startswith(UTF_16):
        raise BadTable(f"{name} is written in UTF-16: save it as CSV in UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    for encoding in ENCODINGS[:-1]:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode(ENCODINGS[-1])


def _header(text: str, name: str) -> list[str]:
    """Raises BadTable for a first row that is none, as a file has that is no CSV."""
    import csv
    import io

    try:
        found = [field.strip() for field in next(csv.reader(io.StringIO(text, newline="")))]
    except csv.Error as error:
        raise BadTable(f"{name} has no header that can be read ({error}): is it a CSV file?") from error
    if not any(found):
        raise BadTable(f"{name} begins with a blank line: delete what stands above the names of the columns")
    return found


def _check_columns(found: list[str], wanted: Sequence[str], name: str) -> None:
    missing = [each for each in wanted if each not in found]
    extra = [each for each in found if each not in wanted]
    twice = sorted({each for each in found if found.count(each) > 1})
    faults = [f"{each!r} is missing{_meant(each, extra)}" for each in missing]
    faults += [f"{each!r} is not expected" for each in extra]
    faults += [f"{each!r} is there twice" for each in twice]
    if faults:
        semicolons = len(found) == 1 and ";" in found[0]
        separator = " It seems to be separated by semicolons: save it with commas." if semicolons else ""
        raise BadTable(f"{name} has other columns than it should: {'; '.join(faults)}.{separator}")


def _meant(name: str, extra: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in extra], n=1)
    return f" (is it {next(each for each in extra if each.lower() == close[0])!r}?)" if close else ""


def _rows(text: str, header: list[str], name: str) -> "pd.DataFrame":
    """Raises BadTable naming all rows that have another number of fields than the header."""
    import io

    import pyarrow as pa
    from pyarrow import csv

    bad: list[Any] = []

    def note(row: Any) -> str:
        bad.append(row)
        return "skip"

    table = csv.read_csv(
        io.BytesIO(text.rstrip("\r\n").encode() + b"\n"),  # a header alone must end, too
        read_options=csv.ReadOptions(
            use_threads=False, column_names=header, skip_rows_after_names=1, block_size=1 << 30
        ),
        parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True),
    )
    if bad:
        raise BadTable(_ragged(bad, len(header), name))
    frame = table.to_pandas()
    frame.index = frame.index + FIRST_ROW
    return _without_blank(frame.rename_axis(ROW), text, name)


def _without_blank(frame: "pd.DataFrame", text: str, name: str) -> "pd.DataFrame":
    """Without the rows that are blank lines, the others keep their numbers. A row of commas only is none of them: it
    looks alike once it is read, so the text is asked; but seldom, since that takes as long again."""
    if not frame.isna().all(axis=1).any():
        return frame
    import csv
    import io

    rows = enumerate(csv.reader(io.StringIO(text, newline="")), start=FIRST_ROW - 1)
    try:
        blank = [number for number, fields in rows if not fields]
    except csv.Error as error:
        raise BadTable(f"{name} has blank lines, and they cannot be told apart ({error}): delete them") from error
    return frame.drop(blank, errors="ignore")  # those at the end are none of it


def _ragged(bad: list[Any], fields: int, name: str) -> str:
    shown = "; ".join(
        f"row {row.number} has {row.actual_columns} ({row.text[:40]!r}{'…' if len(row.text) > 40 else ''})"
        for row in bad[:SHOWN]
    )
    more = f"; and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
    return (
        f"{name} should have {fields} fields in every row: {shown}{more}. The file was cut, or a quote is not closed: "
        "copy or save it again"
    )
