"""Tables that can be used: what each kind of file becomes, which column is what, and where each row stands."""

import csv
import io
import math

import numpy as np
import polars
import pytest
import scipy.sparse
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.datasets import dump_svmlight_file

import accelnn
from accelnn import DataError, load_table
from accelnn.datasets import load_dataset
from accelnn.readers import load_features, split
from accelnn.readers.layout import line_of, look_through

ROWS = {
    "count": [3, None, 12, 7],
    "share": [0.5, -1.25e-3, None, 4.0],
    "flag": [True, False, None, True],
    "town": ["Ulm", "Bonn, old", None, 'the "End"'],
    "y": ["a", "b", "a", "b"],
}


@pytest.fixture
def write(tmp_path):
    """A function that writes a file and returns its path."""

    def writer(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return writer


def read(write, text, target="y", name="t.csv", **options):
    return load_table(write(text, name), target, **options)


def column(write, values, **options):
    """What a column of text with these values becomes."""
    lines = "".join(f"{value},{k % 2}\n" for k, value in enumerate(values))
    return read(write, f"a,y\n{lines}", **options).X["a"]


# Kinds of files.


@pytest.mark.parametrize("kind", ["csv", "txt", "tsv", "parquet", "pq", "arrow", "feather", "ipc"])
def test_a_table_is_the_same_from_every_kind_of_file(kind, tmp_path):
    frame, path = polars.DataFrame(ROWS), tmp_path / f"t [1]*.{kind}"  # a name that a shell would expand
    if kind in ("parquet", "pq"):
        frame.write_parquet(path)
    elif kind in ("csv", "tsv", "txt"):
        frame.write_csv(path, separator="\t" if kind == "tsv" else ",")
    else:
        frame.write_ipc(path)
    dataset = load_table(str(path), "y")
    assert dataset.name == path.name
    assert dataset.features == ("count", "share", "flag", "town")
    assert (dataset.task, dataset.classes, dataset.target) == ("classification", ("a", "b"), "y")
    assert dataset.y.tolist() == [0, 1, 0, 1]
    assert dataset.X.to_dict(as_series=False) == {name: ROWS[name] for name in dataset.features}
    assert [str(dtype) for dtype in dataset.X.dtypes[1:]] == ["Float64", "Boolean", "String"]
    assert dataset.X[np.array([3, 0])]["town"].to_list() == ['the "End"', "Ulm"]
    place = dataset.place(2)
    assert place == ("line 4" if kind in ("csv", "tsv", "txt") else "row 2")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_mapped_where_it_lies(dtype, order, tmp_path):
    X = np.asarray(np.arange(12.0).reshape(4, 3), dtype=dtype, order=order)
    X[1, 2] = np.nan
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "labels.npy", np.array([["x"], ["y"], ["x"], ["y"]]))
    dataset = load_table(tmp_path / "X.npy", target=str(tmp_path / "labels.npy"))
    assert isinstance(dataset.X, np.memmap)
    assert dataset.X.dtype == dtype
    assert not dataset.X.flags.writeable
    np.testing.assert_array_equal(dataset.X, X)
    assert dataset.features == ("x0", "x1", "x2")
    assert (dataset.y.tolist(), dataset.classes, dataset.target) == ([0, 1, 0, 1], ("x", "y"), "labels")
    assert dataset.place(3) == "row 3"


@pytest.mark.parametrize(
    ("stored", "read_as"),
    [
        *(("bool", "float32"), ("int8", "float32"), ("uint16", "float32"), ("float16", "float32")),
        *(
            ("int32", "float64"),
            ("int64", "float64"),
            (">f4", "float32"),
            (">f8", "float64"),
            ("longdouble", "float64"),
        ),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_other_numbers_become_a_type_that_holds_them(stored, read_as, kind, tmp_path):
    X, y = np.array([[0, 1], [1, 0], [1, 1]]).astype(stored), np.array([0.5, 1.5, 2.5])
    np.save(tmp_path / "y.npy", y)
    if kind == "npy":
        np.save(tmp_path / "t.npy", X)
    else:
        np.savez_compressed(tmp_path / "t.npz", X=X)
    dataset = load_table(tmp_path / f"t.{kind}", str(tmp_path / "y.npy"))
    assert dataset.X.dtype == np.dtype(read_as)
    assert dataset.X.dtype.isnative
    np.testing.assert_array_equal(dataset.X, X.astype(float))
    assert dataset.task == "regression"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_holds_x_and_y(save, tmp_path):
    X = np.asfortranarray(np.random.default_rng(0).normal(size=(300, 5)))
    save(tmp_path / "t.npz", X=X, y=np.arange(300)[:, None] % 3, other=np.array([object()]))
    dataset = load_table(tmp_path / "t.npz")
    np.testing.assert_array_equal(dataset.X, X)
    assert dataset.y.tolist() == [k % 3 for k in range(300)]
    assert (dataset.classes, dataset.target) == (("0", "1", "2"), "y")
    assert load_features(tmp_path / "t.npz", dataset.features).X.shape == (300, 5)


@pytest.mark.parametrize("ending", ["svm", "svmlight", "libsvm"])
def test_svmlight_is_sparse(ending, tmp_path):
    dense = scipy.sparse.random_array((40, 30), density=0.2, rng=np.random.default_rng(0)).toarray()
    dense[:, 29] = 1.0
    X = scipy.sparse.csr_array(dense)
    y = np.arange(40) % 2
    dump_svmlight_file(X, y, str(tmp_path / f"t.{ending}"), zero_based=False)
    dataset = load_table(tmp_path / f"t.{ending}")
    assert isinstance(dataset.X, scipy.sparse.csr_array)
    assert dataset.X.shape == (40, 30)
    np.testing.assert_allclose(dataset.X.toarray(), X.toarray(), rtol=1e-12)
    np.testing.assert_array_equal(dataset.X[np.array([5, 1])].toarray(), dataset.X.toarray()[[5, 1]])
    assert dataset.features[-1] == "x29"
    assert dataset.y.tolist() == y.tolist()


def test_svmlight_lines_are_those_of_an_editor(write):
    path = write("# head\r\n1 1:2\r\n\r\n-1 2:nan # gap\r\n1\r\n", "t.svm")
    dataset = load_table(path)
    np.testing.assert_array_equal(dataset.X.toarray(), [[2, 0], [0, np.nan], [0, 0]])
    assert [dataset.place(row) for row in range(3)] == ["line 2", "line 4", "line 5"]
    assert dataset.classes == ("-1", "1")


def test_the_model_says_how_many_columns_svmlight_has(write):
    path = write("0 1:2\n0 3:1\n", "t.svm")
    found = load_features(path, [f"x{k}" for k in range(7)])
    assert found.X.shape == (2, 7)
    assert found.place(1) == "line 2"
    with pytest.raises(DataError, match=r"t\.svm: line 2: index '3' is beyond the 2 columns"):
        load_features(path, ["x0", "x1"])


def test_built_in_data_sets_are_arrays():
    dataset = load_table("iris")
    assert dataset.X.dtype == np.float64
    assert dataset.place(7) == "row 7"
    found = load_features("iris", dataset.features[::-1])
    np.testing.assert_array_equal(found.X, dataset.X[:, ::-1])
    for options in ({"target": "x"}, {"task": "regression"}, {"categorical": ["x"]}, {"ignore": ["x"]}):
        with pytest.raises(DataError, match=f"--{next(iter(options))}: iris is a built-in data set"):
            load_table("iris", **options)


# Kinds of columns.


def test_a_column_of_numbers(write):
    values = ["1", " 2.5", "-3e2 ", "+.5", "", "NA", "N/A", "NaN", "nan", "null", "NULL", '" NA "', "7."]
    found = column(write, values)
    assert str(found.dtype) == "Float64"
    assert found.to_list() == [1.0, 2.5, -300.0, 0.5, *[None] * 8, 7.0]


def test_a_column_of_booleans(write):
    found = column(write, ["true", "FALSE", "", "True", "NA", "false"])
    assert found.to_list() == [True, False, None, True, None, False]


def test_a_column_of_words(write):
    found = column(write, ["red", "NA", "", " blue", "inf", '"a ""b"", c"', "Null", "na"])
    assert found.to_list() == ["red", None, None, " blue", "inf", 'a "b", c', "Null", "na"]


def test_an_empty_column_holds_missing_numbers(write):
    assert column(write, ["", "NA", ""]).to_list() == [None] * 3


def test_codes_are_words_where_they_are_declared(write, tmp_path):
    values = ["03", "3", "", "3.0", "q"]
    assert column(write, values, categorical=["a"]).to_list() == ["03", "3", None, "3.0", "q"]
    frame = polars.DataFrame({"a": [3, None, 4], "b": [3.0, None, 4.0], "c": [0.5, 3.0, None], "y": [0, 1, 0]})
    frame.write_parquet(tmp_path / "t.parquet")
    X = load_table(tmp_path / "t.parquet", "y", categorical=["a", "b", "c"]).X
    assert X.to_dict(as_series=False) == {"a": ["3", None, "4"], "b": ["3", None, "4"], "c": ["0.5", "3", None]}


def test_a_column_that_is_ignored_may_hold_anything(write, tmp_path):
    text = "a,when,mess,y\n1,2024-01-02,1,0\n2,2024-01-03,q,1\n"
    assert read(write, text, ignore=("when", "mess")).X.to_dict(as_series=False) == {"a": [1.0, 2.0]}
    frame = polars.DataFrame({"a": [1.0, 2.0], "list": [[1], [2]], "y": [0, 1]})
    frame.write_parquet(tmp_path / "t.parquet")
    assert load_table(tmp_path / "t.parquet", "y", ignore="list").features == ("a",)


def test_types_of_parquet_that_are_numbers_or_text(tmp_path):
    from decimal import Decimal

    frame = polars.DataFrame(
        {
            "u8": polars.Series([1, None], dtype=polars.UInt8),
            "f32": polars.Series([1.5, float("nan")], dtype=polars.Float32),
            "decimal": [Decimal("1.25"), None],
            "category": polars.Series(["a", None], dtype=polars.Categorical),
            "none": polars.Series([None, None], dtype=polars.Null),
            "number_as_text": ["1", ""],
            "y": [0, 1],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    X = load_table(tmp_path / "t.parquet", "y").X
    assert X.to_dict(as_series=False) == {
        "u8": [1, None],
        "f32": [1.5, None],
        "decimal": [1.25, None],
        "category": ["a", None],
        "none": [None, None],
        "number_as_text": ["1", ""],
    }
    assert [str(X[name].dtype) for name in ("decimal", "category", "none")] == ["Float64", "String", "Float64"]


def test_features_come_in_the_order_of_the_model(write):
    path = write("c,b,a,when\nx,1,7,2024-01-01\ny,,8,2024-01-02\n")
    found = load_features(path, ("a", "b", "c"), categorical=["a"])
    assert found.X.rows() == [("7", 1.0, "x"), ("8", None, "y")]
    assert (found.name, found.place(1)) == ("t.csv", "line 3")
    with pytest.raises(DataError, match=r"t\.csv: has no column 'd', which the model was trained on; it has 'c', 'b'"):
        load_features(path, ["a", "d"])


# Targets.


@pytest.mark.parametrize(
    ("values", "task", "y", "classes"),
    [
        (["b", "a", "b"], "classification", [1, 0, 1], ("a", "b")),
        (["true", "False", "true"], "classification", [1, 0, 1], ("False", "True")),
        (["3", "1", "3"], "classification", [1, 0, 1], ("1", "3")),
        (["3.0", "1.0", "3.0"], "classification", [1, 0, 1], ("1", "3")),
        (["1.5", "2", "3"], "regression", [1.5, 2.0, 3.0], ()),
        ([str(k) for k in range(30)], "regression", list(range(30)), ()),
        (["9007199254740993", "9007199254740992"], "classification", [1, 0], ("9007199254740992", "9007199254740993")),
        (["1e9", "2e9"], "classification", [0, 1], ("1000000000", "2000000000")),
    ],
)
def test_the_target_says_what_the_task_is(values, task, y, classes, write):
    found = read(write, "a,y\n" + "".join(f"{k},{value}\n" for k, value in enumerate(values)))
    assert (found.task, found.y.tolist(), found.classes) == (task, y, classes)


def test_the_task_can_be_said(write):
    text = "a,y\n1,1\n2,2\n3,1\n"
    assert read(write, text, task="regression").y.tolist() == [1.0, 2.0, 1.0]
    assert read(write, "a,y\n1,0.5\n2,1.5\n", task="classification").classes == ("0.5", "1.5")
    assert read(write, "a,y\n1,1\n2,x\n", categorical=["y"]).classes == ("1", "x")


def test_class_names_are_sorted_as_python_sorts(write):
    names = ["ä", "z", "A", "a", "Z", "é", "10", "9"]
    text = "k,y\n" + "".join(f"{k},{name}\n" for k, name in enumerate(names))
    assert read(write, text, categorical=["y"]).classes == tuple(sorted(names))


def test_splits_hold_out_each_class_alike():
    dataset = load_dataset("iris")
    training, held_out = split(dataset, 0.2, 0)
    assert sorted([*training, *held_out]) == list(range(150))
    assert np.bincount(dataset.y[held_out]).tolist() == [10, 10, 10]
    assert len(split(dataset, 0.0, 0)[1]) == 0


# Text, as it comes.


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"a,y\n1,u\n2,v\n", [2, 3]),
        (b"a,y\n1,u\n2,v", [2, 3]),
        (b"\xef\xbb\xbfa,y\n1,u\n2,v\n", [2, 3]),
        (b"a,y\r\n1,u\r\n2,v\r\n", [2, 3]),
        (b"a,y\n\n1,u\n\n\n2,v\n\n", [3, 6]),
        (b"a,y\r\n\r\n1,u\r\n\r\n2,v\r\n\r\n\r\n", [3, 5]),
        (b'"a","y"\n"1","u"\n"2","v"\n', [2, 3]),
        (b'\xef\xbb\xbf"a","y"\r\n"1","u"\r\n"2","v"\r\n', [2, 3]),
        (b'a,"y"\n"1\n",u\n\n"2",v\n', [2, 5]),
    ],
)
def test_byte_order_marks_line_ends_and_blank_lines(text, lines, write):
    found = read(write, text)
    assert found.features == ("a",)
    assert found.X["a"].to_list() == [1.0, 2.0]
    assert found.classes == ("u", "v")
    assert [found.place(row) for row in range(2)] == [f"line {line}" for line in lines]


def test_quotes_hold_separators_line_breaks_and_quotes(write):
    text = '"the\nname",b,y\n"x, y",1,u\n"two\r\nlines",2,v\n"5"" pipe",3,u\n"",4,v\n'
    found = read(write, text)
    assert found.features == ("the\nname", "b")
    assert found.X["the\nname"].to_list() == ["x, y", "two\r\nlines", '5" pipe', None]
    assert [found.place(row) for row in range(4)] == ["line 3", "line 4", "line 6", "line 7"]


def test_one_column_and_blank_lines(write):
    found = load_features(write('a\n1\n\n""\n3\n'), ["a"])
    assert found.X["a"].to_list() == [1.0, None, 3.0]
    assert found.place(2) == "line 5"


def test_a_path_may_be_of_any_kind(write, monkeypatch):
    path = write("a,y\n1,u\n2,v\n", "täble.CSV")
    assert load_table(path, "y").name == "täble.CSV"
    monkeypatch.chdir(path.parent)
    assert load_table("täble.CSV", "y").name == "täble.CSV"
    assert accelnn.load_table is load_table


pieces = st.sampled_from(["a", "1", ",", "\t", '"', "\n", "\r\n", " ", "é", "🙂", "NA"])
field = st.lists(pieces, max_size=4).map("".join)


@given(st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(field, min_size=n, max_size=n), min_size=1, max_size=12)))
@example([["", ""], ["\n", "x"]])
def test_what_the_csv_module_writes_is_read_as_it_reads_it(tmp_path_factory, rows):
    """Words, line numbers and rows, for any quoting; in blocks of a few bytes, so that every boundary is met."""
    from unittest.mock import patch

    names = [f"c{k}" for k in range(len(rows[0]))]
    for separator, chunk in ((",", 7), ("\t", 2**22)):
        path = tmp_path_factory.getbasetemp() / ("any.csv" if separator == "," else "any.tsv")
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter=separator).writerows([names, *rows])
        with patch("accelnn.readers.layout.CHUNK", chunk):
            assert look_through(path, separator).rows == len(rows)
            found = load_features(path, names, categorical=names)
            texts = [[None if v.strip() in ("", "NA") else v for v in row] for row in rows]
            assert found.X.rows() == [tuple(row) for row in texts]
            reader = csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), delimiter=separator)
            starts = [1 + reader.line_num for _ in reader]  # the line after each row's last
            for row in range(len(rows)):
                assert line_of(path, separator, row) == starts[row]
            assert line_of(path, separator, len(rows)) is None


number = st.one_of(st.floats(allow_infinity=False), st.integers(-(10**20), 10**20))


@given(st.lists(number, min_size=2, max_size=20))
def test_numbers_come_back_to_the_last_bit(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "numbers.csv"
    path.write_text("a\n" + "".join(f"{value!r}\n" for value in values))
    found = load_features(path, ["a"]).X["a"].to_list()
    assert found == [None if math.isnan(value) else float(value) for value in values]


def test_names_with_quotes_and_line_breaks(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,"b ""q""","c\nd",y\n1,2,3,x\n4,5,6,z\n')
    table = load_table(path, target="y")
    assert table.features == ("a", 'b "q"', "c\nd")
    assert table.X.rows() == [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)]
    assert table.place(1) == "line 4"
