"""CSV files as they come from people: encodings, quotes, cut files, other columns."""

from __future__ import annotations

import codecs
import csv
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_pipeline.ml.tables.reading import FIRST_ROW, BadTable, read_csv

COLUMNS = ("name", "city", "price")
WHOLE = "name,city,price\nAnn,Köln,1.5\nBob,Zürich,2\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_usual_encoding_gives_the_same_table(encoding: str, newline: str) -> None:
    frame = read_csv(WHOLE.replace("\n", newline).encode(encoding), COLUMNS, "x.csv")
    assert frame.to_dict("list") == {"name": ["Ann", "Bob"], "city": ["Köln", "Zürich"], "price": ["1.5", "2"]}
    assert frame.index.tolist() == [FIRST_ROW, FIRST_ROW + 1]


def test_a_mark_of_utf_8_before_another_encoding_is_no_part_of_a_name() -> None:
    frame = read_csv(codecs.BOM_UTF8 + WHOLE.encode("latin-1"), COLUMNS, "x.csv")
    assert frame["city"].tolist() == ["Köln", "Zürich"]


def test_columns_come_in_the_order_of_the_description() -> None:
    frame = read_csv(b"price,name,city\n1,Ann,Rome\n", COLUMNS, "x.csv")
    assert list(frame) == list(COLUMNS)


def test_quotes_may_hold_commas_and_line_ends_and_nothing_is_missing() -> None:
    frame = read_csv(b'name,city,price\n"Ann, Dr.","two\nlines",\n', COLUMNS, "x.csv")
    assert frame.iloc[0].tolist() == ["Ann, Dr.", "two\nlines", None]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "x.csv is empty"),
        (b"\n \n", "x.csv is empty"),
        (b"\n" + WHOLE.encode(), "begins with a blank line: delete what stands above the names"),
        (b"\xef\xbb\xbf\r\n" + WHOLE.encode(), "begins with a blank line"),
        (b",,\n" + WHOLE.encode(), "begins with a blank line"),
        (b"name,city,price\n", "a header and no rows"),
        (b"name,city,price\n\n\n", "a header and no rows"),
        (b"name,city,Price\nAnn,Rome,1\n", r"'price' is missing \(is it 'Price'\?\); 'Price' is not expected"),
        (b"name,city,price,more\nAnn,Rome,1,2\n", "'more' is not expected"),
        (b"name,city,price,price\nAnn,Rome,1,2\n", "'price' is there twice"),
        (b"name,price\nAnn,1\n", "'city' is missing"),
        (b"name;city;price\nAnn;Rome;1\n", "separated by semicolons"),
        (b"\x89PNG\r\n\x1a\n", r"'.PNG' is not expected\.$"),
        (b"name,city,price\nAnn,Rome,1\nBob,Par", r"row 3 has 2 \('Bob,Par'\)"),
        (b'name,city,price\nAnn,"Rome,1\nBob,Paris,2\n', "row 2 has 2"),
        (WHOLE.encode("utf-16"), "written in UTF-16"),
        (b"x" * 200_000 + b"\n1\n", "no header that can be read .*is it a CSV file"),
        (b"name,city,price\nAnn,Rome,1,2\nBob,Paris\n", r"row 2 has 4 .*row 3 has 2"),
        (b"name,city,price\n\nAnn,Rome," + b"1" * 200_000, r"has blank lines, .* \(field larger .*: delete them"),
        (b"name,city,price\n\nAnn,Rome,1,2\n\n\nBob,Paris\n", r"row 3 has 4 .*row 6 has 2"),
    ],
)
def test_what_is_no_whole_table_is_refused_with_the_reason(data: bytes, said: str) -> None:
    with pytest.raises(BadTable, match=said):
        read_csv(data, COLUMNS, "x.csv")


def test_many_bad_rows_are_counted_and_the_first_are_shown() -> None:
    with pytest.raises(BadTable, match=r"row 11 .*; and 40 more"):
        read_csv(b"name,city,price\n" + b"too,few\n" * 50, COLUMNS, "x.csv")


def test_a_cut_in_the_last_value_is_refused_with_what_to_do() -> None:
    with pytest.raises(BadTable, match=r"last value may have been cut: it ends with '.*Bob,Zürich,2'. If it is whole"):
        read_csv(WHOLE.strip().encode(), COLUMNS, "x.csv")


QUOTED = 'name,city,price\nAnn,Köln,1.5\nBob,"Zürich, ""old""\ntown","2 francs\n40 or\nless"\n'


@pytest.mark.parametrize("whole", [WHOLE, WHOLE.replace("\n", "\r\n"), QUOTED])
def test_a_file_cut_anywhere_is_refused_or_has_lost_whole_lines(whole: str) -> None:
    """Of which nothing in a CSV file tells."""
    rows = read_csv(whole.encode(), COLUMNS, "x.csv").to_numpy().tolist()
    for cut in range(len(whole)):
        with suppress(BadTable):
            found = read_csv(whole[:cut].encode(), COLUMNS, "x.csv").to_numpy().tolist()
            assert found == rows[: len(found)]


def test_a_blank_line_is_a_row_that_is_left_out_and_a_row_of_commas_is_not() -> None:
    frame = read_csv(b"name,city,price\n\nAnn,Rome,1\n\n,,\nBob,Paris,2\n\n\n", COLUMNS, "x.csv")
    assert frame["name"].to_dict() == {3: "Ann", 5: None, 6: "Bob"}


def test_a_name_of_a_column_may_hold_a_line_break() -> None:
    frame = read_csv(b'name,city,"the\nprice"\nAnn,Rome,1\n', ("name", "city", "the\nprice"), "x.csv")
    assert frame.index.tolist() == [FIRST_ROW]


text = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    lambda value: (
        value.strip().lower() not in ("", "na", "n/a", "nan", "null", "#n/a", "-nan", "1.#ind", "-1.#ind")
        and not value.startswith(("#N/A", "1.#", "-1.#", "#NA"))
    )
)


@given(st.lists(st.tuples(text, text, text), min_size=1, max_size=5))
def test_what_a_csv_writer_writes_is_read_back(rows: list[tuple[str, str, str]]) -> None:
    written = io.StringIO()
    csv.writer(written).writerows([COLUMNS, *rows])
    frame = read_csv(written.getvalue().encode(), COLUMNS, "x.csv")
    assert [tuple(row) for row in frame.to_numpy()] == rows


broken = st.text(st.sampled_from('a,"\n '), max_size=6).map(lambda value: f"x{value}")  # never missing, never blank
lines = st.lists(st.none() | st.tuples(broken, broken, broken), min_size=1, max_size=8).filter(any)


@given(lines, st.sampled_from(["\n", "\r\n"]), st.integers(0, 3), st.booleans())
def test_row_numbers_are_those_of_a_spreadsheet(
    rows: list[tuple[str, str, str] | None], newline: str, trailing: int, cut: bool
) -> None:
    """None is a blank line. Line breaks in quoted fields begin no row, blank lines at the end are of no account."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator=newline)
    writer.writerow(COLUMNS)
    for row in rows:
        written.write(newline) if row is None else writer.writerow(row)
    data = (written.getvalue() + trailing * newline).encode()
    wanted = {number: row[0] for number, row in enumerate(rows, FIRST_ROW) if row is not None}
    assert read_csv(data, COLUMNS, "x.csv")["name"].to_dict() == wanted
    if cut:  # one more row, with too few fields
        where = FIRST_ROW + len(rows) + trailing
        with pytest.raises(BadTable, match=rf"row {where} has 2 "):
            read_csv(data + b"too,few", COLUMNS, "x.csv")
