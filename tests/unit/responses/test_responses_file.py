from pathlib import Path

import numpy as np
import pytest

from infra.errors import ResponsesError
from infra.responses import family_name_of, read_items, read_labels, read_responses

EXAMPLES = Path(__file__).parents[3] / "examples"
SCALES = b'[one]\nitems = ["a", "b"]\nreversed = ["b"]\n[two]\nitems = ["c", "d"]\n'


def read(text, *, scales=None, source="folder/my file.csv"):
    data = text if isinstance(text, bytes) else text.encode()
    return read_responses(data, scales=scales, source=source)


def refused(text, **options):
    with pytest.raises(ResponsesError) as error:
        read(text, **options)
    return str(error.value)


def test_cells_are_categories_or_missing():
    file = read("a,b\n1,-2\nNA,3\n,4\n 5 ,+6\n")

    assert file.items == ("a", "b")
    assert file.cells.tolist() == [[1, -2], [0, 3], [0, 4], [5, 6]]
    assert file.missing.tolist() == [[False] * 2, [True, False], [True, False], [False] * 2]
    assert file.cells.dtype == np.int64
    assert file.respondents == 4


def test_a_zero_is_an_answer():
    file = read("a,b\n0,1\n1,0\n")

    assert not file.missing.any()


def test_without_scales_all_columns_are_one_family_named_after_the_file():
    (family,) = read("a,b\n1,2\n2,1\n").families

    assert (family.family, family.items, family.reversed) == ("my_file", ("a", "b"), ())


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("bfi.csv", "bfi"),
        ("/x/big five (1).csv", "big_five__1_"),
        ("2024.csv", "responses"),
        ("", "responses"),
        ("été.csv", "responses"),
        ("x" * 99, "x" * 63),
    ],
)
def test_a_family_s_name_comes_of_the_stem(source, name):
    assert family_name_of(source) == name


def test_scales_say_what_belongs_together_and_other_columns_are_left_alone():
    file = read("id,d,c,b,a\nann smith,1,2,3,4\nbob,2,1,1,NA\nc,,,,3\n", scales=SCALES)

    assert [(one.family, one.items, one.reversed) for one in file.families] == [
        ("one", ("a", "b"), ("b",)),
        ("two", ("c", "d"), ()),
    ]
    assert file.items == ("a", "b", "c", "d")
    assert file.cells.tolist() == [[4, 3, 2, 1], [0, 1, 1, 2], [3, 0, 0, 0]]
    assert file.notes == ("columns in no scale: id",)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\r\n1,2\r\n2,1\r\n",
        "a,b\r1,2\r2,1",
        "\ufeffa,b\n1,2\n2,1",
        '"a","b"\n"1","2"\n2,"1"\n\n\n',
        " a , b\n1, 2\n2 ,1\n",
    ],
)
def test_line_ends_quotes_marks_and_spaces_make_no_difference(text):
    file = read(text)

    assert file.items == ("a", "b")
    assert file.cells.tolist() == [[1, 2], [2, 1]]


def test_a_respondent_without_an_answer_keeps_its_row_and_is_noted():
    file = read("a,b\n1,2\nNA,\n2,1\n,NA\n")

    assert file.respondents == 4
    assert file.silent == (2, 4)
    assert file.notes == ("respondents without an answer, not counted: 2 (rows 2, 4)",)


def test_answers_are_those_that_were_given():
    file = read("a,b\n1,NA\n2,0\n3,1\n")

    assert file.answers(0, ["b", "a"]) == {"a": 1}
    assert file.answers(1, ["b"]) == {"b": 0}
    with pytest.raises(ResponsesError, match="respondent 3"):
        file.answers(3, ["a"])
    with pytest.raises(ResponsesError, match="'c'"):
        file.answers(0, ["c"])


def test_some_columns_are_read_without_judging_the_rest():
    file = read_items(b"id,a,b\nx,1,y\n", ["a"], source="f.csv")

    assert (file.items, file.cells.tolist(), file.families) == (("a",), [[1]], ())
    with pytest.raises(ResponsesError, match="no column 'c'"):
        read_items(b"id,a,b\nx,1,y\n", ["c"], source="f.csv")


@pytest.mark.parametrize(
    "cell",
    [
        "x",
        "1.5",
        "3.0",
        "1e2",
        "-",
        "--1",
        "1 2",
        "1234567",
        "9" * 5000,
        "٣",
        "nan",
        "na",
        "N/A",
        "NULL",
        "0x1",
        "1_0",
        "-inf",
        "TRUE",
    ],
)
def test_a_cell_that_is_no_category_is_named_by_row_line_column_and_value(cell):
    text = refused(f"a,b\n1,2\n2,1\n3,{cell}\n")

    assert "folder/my file.csv: row 3 (line 4), column b: " in text
    assert repr(cell)[:50] in text
    assert "give a whole number" in text
    assert len(text) < 300


def test_the_first_of_several_bad_cells_is_named():
    assert "row 1 (line 2), column b: 'x'" in refused("a,b\n1,x\ny,z\n")


def test_a_row_s_line_counts_the_lines_inside_quotes():
    text = refused('id,a,b,c,d\n"two\nlines",1,2,3,4\nz,1,2,3,x\n', scales=SCALES)

    assert "row 2 (line 4), column d: 'x'" in text


@pytest.mark.parametrize(("line", "cells"), [("1", 1), ("1,2,3", 3), ("1,2,", 3), (" ", 1)])
def test_a_ragged_row_is_named(line, cells):
    text = refused(f"a,b\n1,2\n{line}\n")

    assert f"row 2 (line 3) has {cells} cells, the header has 2" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("\ufeff", "the file is empty"),
        ("a,b\n", "no row below the header"),
        ("a,b\n1,2\n\n2,1\n", "line 3 is empty"),
        ("a,,c\n1,2,3\n", "line 1: column 2 has no name"),
        ('"",a,b\n1,2,3\n', "row.names = FALSE"),
        ("a,b, a\n1,2,3\n", "line 1: column 3 is named 'a' as is column 1"),
        ("a;b\n1;2\n", "separated by semicolons: save the file separated by commas"),
        ("a\tb\n1\t2\n", "separated by tabs"),
        ("a,b c\n1,2\n", "column 2: 'b c' can't be a name"),
        ("a,2\n1,2\n", "column 2: '2' can't be a name"),
        (f"a,{'b' * 64}\n1,2\n", "can't be a name"),
        ("a\n1\n2\n", "items: 1, and at least 2"),
        ("a,b\n1,2\n1,3\n", "column a: every answer is 1, so it tells nobody apart"),
        ("a,b\n1,NA\n2,\n", "column b: nobody answered it"),
        ('a,b\n1,"2\n2,1\n', "is not CSV"),
        ('a,b\n1,"2"x\n2,1\n', "line 2 is not CSV"),
        (b"a,b\n1,2\n2,\xe9\n", "line 3 holds the byte 0xe9, which is not UTF-8: save"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1 holds the byte 0xff"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1 holds a NUL"),
    ],
)
def test_a_file_that_can_t_be_used_says_where_and_what_to_do(text, words):
    error = refused(text)

    assert error.startswith("folder/my file.csv: ")
    assert words in error


def test_an_item_with_very_many_categories_is_no_ordered_response():
    rows = "".join(f"{value},{value % 2}\n" for value in range(51))

    assert "column age: it has 51 categories" in refused(f"age,b\n{rows}")
    assert read("age,b\n" + rows.removesuffix("50,0\n")).respondents == 50


ROWS = "a,b,c,d\n1,2,3,4\n2,1,4,3\n"


@pytest.mark.parametrize(
    ("scales", "words"),
    [
        ("", "names no scale"),
        ("[one", "is not TOML"),
        (b"\xff", "is not TOML"),
        ("one = 1", "one = 1 is not a scale"),
        ("[one]", "[one] items is None: give a list"),
        ('[one]\nitems = "a"', "[one] items is 'a'"),
        ("[one]\nitems = [1, 2]", "[one] items is [1, 2]"),
        ('[one]\nitems = ["a"]', "[one]: items: 1, and"),
        ('[one]\nitems = ["a", "a"]', "[one] items names 'a' twice"),
        ('[one]\nitems = ["a", "z"]', "[one] names the item 'z', which is no column"),
        ('[one]\nitems = ["a", "b c"]', "'b c' can't be a name"),
        ('["o ne"]\nitems = ["a", "b"]', "'o ne' can't be a name"),
        ('[one]\nitems = ["a", "b"]\nreversed = ["c"]', "[one] reverses 'c', which is not in"),
        ('[one]\nitems = ["a", "b"]\nreversed = ["a", "a"]', "reversed names 'a' twice"),
        ('[one]\nitems = ["a", "b"]\nreversed = "a"', "[one] reversed is 'a'"),
        ('[one]\nitems = ["a", "b"]\nreverse = ["a"]', "[one] has 'reverse': only items"),
        (
            '[one]\nitems = ["a", "b"]\n[two]\nitems = ["c", "a"]',
            "'a' is in [one] and in [two]",
        ),
        ('[one]\nitems = ["a", "b"]\ntraits = ["x", "y"]', "[one] traits is ['x', 'y']: name each"),
        ('[one]\nitems = ["a", "b"]\ntraits = {}', "[one] traits is {}: name each trait's items"),
        ('[one]\nitems = ["a", "b"]\n[one.traits]\nx = "a"', "[one] traits.x is 'a': give a list"),
        (
            '[one]\nitems = ["a", "b"]\n[one.traits]\nx = ["a", "c"]\ny = ["b"]',
            "[one] traits.x names 'c', which is not in its items",
        ),
        (
            '[one]\nitems = ["a", "b"]\n[one.traits]\nx = ["a"]\ny = ["b", "a"]',
            "[one] item 'a' is in the traits x and y: give each item to one trait",
        ),
        (
            '[one]\nitems = ["a", "b", "c"]\n[one.traits]\nx = ["a"]\ny = ["c"]',
            "[one] traits leave out b: give each item",
        ),
        (
            '[one]\nitems = ["a", "b"]\n[one.traits]\n"x y" = ["a"]\nz = ["b"]',
            "[one] traits: 'x y' can't be a name",
        ),
    ],
)
def test_a_bad_scale_is_named(scales, words):
    error = refused(ROWS, scales=scales if isinstance(scales, bytes) else scales.encode())

    assert error.startswith("scales: ")
    assert words in error


def test_traits_are_given_to_items_in_their_order():
    scales = b'[one]\nitems = ["a", "b", "c", "d"]\ntraits = { x = ["c", "a"], y = ["b", "d"] }'
    [family] = read(ROWS, scales=scales).families

    assert family.traits == ("x", "y", "x", "y")
    assert family.trait_of_item == {"a": "x", "b": "y", "c": "x", "d": "y"}


def test_a_scales_file_with_a_mark_is_read():
    assert len(read(ROWS, scales=b"\xef\xbb\xbf" + SCALES).families) == 2


def test_the_example_holds_what_its_source_says():
    file = read_responses(
        (EXAMPLES / "bfi.csv").read_bytes(),
        scales=(EXAMPLES / "bfi.toml").read_bytes(),
        source="bfi.csv",
    )

    assert (file.respondents, len(file.items), int(file.missing.sum())) == (2800, 25, 508)
    assert set(file.cells[~file.missing].tolist()) == {1, 2, 3, 4, 5, 6}
    assert (
        " ".join(item for one in file.families for item in one.reversed) == "A1 C4 C5 E1 E2 O2 O5"
    )
    assert all(len(one.items) == 5 for one in file.families)


def test_reading_loads_no_heavy_library(isolated_modules):
    heavy = {"jax", "pandas", "pyarrow", "google", "obstore"}

    assert isolated_modules("infra.responses") & heavy == set()


GROUPED = "a,b,sex\n1,2,f\n2,1,m\n1,1, f \n2,2,NA\n1,2,m\n"


def test_a_column_of_groups_is_no_item_and_may_hold_words():
    file = read_responses(GROUPED.encode(), scales=None, source="x.csv", groups="sex")

    assert file.families[0].items == ("a", "b")
    assert file.notes == ()
    assert read_labels(GROUPED.encode(), "sex", source="x.csv") == ("f", "m", "f", None, "m")


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        (GROUPED, "age", "there is no column 'age': the columns are a, b, sex"),
        (GROUPED, "a", "column 'a' is an item of [one], so it can't say who is in which group"),
        (GROUPED.replace("m", "f"), "sex", "column 'sex' has 1 groups (f): give 2 to 10"),
        (GROUPED.replace("1,2,m", "1,2,f"), "sex", "group 'm' has one respondent"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(text, column, said):
    scales = b'[one]\nitems = ["a", "b"]\n'
    with pytest.raises(ResponsesError) as error:
        read_responses(text.encode(), scales=scales, source="x.csv", groups=column)
    assert said in str(error.value)
