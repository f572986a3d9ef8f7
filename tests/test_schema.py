"""From a table to a network's inputs: what is learned, what becomes of each value, and what is refused."""

import doctest
import json
import math
import tracemalloc

import numpy as np
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from accelnn import DataError
from accelnn.readers import load_table
from accelnn.tables import encoding, learning, model, schema
from accelnn.tables.columns import MOST_CATEGORIES, Categorical, Numeric
from accelnn.tables.schema import Schema, Standardizer

# Tables.

NUMBERS = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
TEXTS = st.sampled_from(["", "a", "b", "ä", "b ", "null", "0", "long " * 9])


def columns(kind, m, gaps):
    values = {"float": NUMBERS, "int": st.integers(-(2**40), 2**40), "bool": st.booleans(), "text": TEXTS}[kind]
    return st.lists(st.one_of(st.none(), values) if gaps else values, min_size=m, max_size=m)


@st.composite
def frames(draw, gaps=True, kinds=("float", "int", "bool", "text")):
    """A table in whose columns at least one value stands, and how many of its rows are there to learn from."""
    m = draw(st.integers(1, 12))
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=5))
    made = {}
    for k, kind in enumerate(chosen):
        values = draw(columns(kind, m, gaps))
        filler = {"float": 0.5, "int": 1, "bool": True, "text": "a"}[kind]
        dtype = {"float": polars.Float64, "int": polars.Int64, "bool": polars.Boolean, "text": polars.String}[kind]
        made[f"{kind}{k}"] = polars.Series([filler if values[0] is None else values[0], *values[1:]], dtype=dtype)
    return polars.DataFrame(made)


def same(a, b):
    """Bit for bit, and of the same kind."""
    if sparse.issparse(a):
        assert sparse.issparse(b)
        for part in ("data", "indices", "indptr"):
            same(getattr(a, part), getattr(b, part))
        assert a.shape == b.shape
        return
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


# What becomes of a value.


def test_numbers_become_mean_0_and_deviation_1():
    X = np.random.default_rng(0).normal(5.0, 3.0, (10_000, 3))
    X[:, 2] = 7.0
    found = Schema.of(X)
    encoded = found.encode(X).X
    np.testing.assert_allclose(encoded.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(encoded.std(axis=0), [1.0, 1.0, 0.0], atol=1e-12)
    assert found.names == ("x0", "x1", "x2")
    assert found.columns[2].scale == 1.0
    old = Standardizer.of(X, found.names)
    np.testing.assert_allclose([c.mean for c in found.columns], old.mean, rtol=1e-13)
    np.testing.assert_allclose([c.scale for c in found.columns], old.scale, rtol=1e-12)


def test_only_the_training_rows_count():
    X = np.array([[1.0], [3.0], [1e9], [np.nan]])
    (column,) = Schema.of(X, rows=np.array([1, 0])).columns
    assert (column.mean, column.scale) == (2.0, 1.0)
    table = polars.DataFrame({"c": ["a", "b", "other", None]})
    (column,) = Schema.of(table, rows=np.array([1, 0])).columns
    assert column.categories == ("a", "b")


def test_a_table_by_hand():
    table = polars.DataFrame(
        {
            "age": [10.0, None, 30.0, 80.0],
            "city": ["Ulm", "Bonn", None, "Ulm"],
            "paid": [True, False, False, True],
            "rooms": [1, 2, 3, 4],
        }
    )
    found = Schema.of(table, missing="impute")
    assert found.inputs == (
        *("age", "age is missing", "city=Bonn", "city=Ulm", "city is missing"),
        *("paid", "rooms"),
    )
    age, city, paid, rooms = found.columns
    assert (age.median, age.mean, age.scale, age.indicator) == (
        30.0,
        37.5,
        math.sqrt((27.5**2 + 112.5 + 42.5**2) / 4),
        True,
    )
    assert city == Categorical("city", ("Bonn", "Ulm"), imputes=True, indicator=True)
    assert paid == Numeric("paid", 0.5, 0.5, 0.5, boolean=True)
    assert rooms == Numeric("rooms", 2.5, math.sqrt(1.25), 2.5)
    encoded = found.encode(table)
    expected = [
        [(10.0 - 37.5) / age.scale, 0, 0, 1, 0, 1, -1.5 / rooms.scale],
        [(30.0 - 37.5) / age.scale, 1, 1, 0, 0, -1, -0.5 / rooms.scale],
        [(30.0 - 37.5) / age.scale, 0, 0, 0, 1, -1, 0.5 / rooms.scale],
        [(80.0 - 37.5) / age.scale, 0, 0, 1, 0, 1, 1.5 / rooms.scale],
    ]
    same(encoded.X, np.array(expected))
    assert encoded.tally.imputed == {"age": 1, "city": 1}
    assert not encoded.tally.unknown


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [1.0, 2.0, 4.0, 9.0], [-1.0], [0.0, 0.0, 5.0]])
def test_the_median_is_that_of_what_is_there(values):
    column = np.array([*values, np.nan, np.nan])[:, None]
    for X in (column, polars.DataFrame({"x0": column[:, 0]}), sparse.csr_array(column)):
        (found,) = Schema.of(X, missing="impute").columns
        assert found.median == np.median(values)
        assert found.indicator


def test_a_schema_learned_with_imputation_takes_gaps_where_training_had_none():
    found = Schema.of(np.array([[1.0], [3.0], [5.0]]), missing="impute")
    assert found.width == 1
    encoded = found.encode(np.array([[np.nan], [3.0]]))
    np.testing.assert_array_equal(encoded.X, [[0.0], [0.0]])
    assert encoded.tally.imputed == {"x0": 1}


def test_unknown_categories_are_zeros_and_counted_and_refused_if_strict():
    found = Schema.of(polars.DataFrame({"c": ["a", "b"], "d": ["x", "y"]}))
    new = polars.DataFrame({"c": ["b", "zz", "q"], "d": ["x", "x", "w"]})
    encoded = found.encode(new)
    np.testing.assert_array_equal(encoded.X, [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    assert encoded.tally.unknown == {"c": 2, "d": 1}
    assert str(encoded.tally) == (
        "column 'c': 2 rows have a category that training did not see; "
        "column 'd': 1 row has a category that training did not see"
    )
    with pytest.raises(DataError, match=r"^t.csv: column 'c', line 3: 'zz' is a category that training did not see; "):
        found.encode(new, strict=True, source="t.csv", place=lambda row: f"line {row + 2}")


def test_a_remark_is_not_longer_than_a_line():
    tally = schema.Tally()
    tally.unknown.update({f"c{k}": 1234 for k in range(300)})
    tally.imputed.update({"a": 1})
    assert str(tally).count("1,234 rows") == 5
    assert str(tally).endswith("; and the like 296 more times")
    other = schema.Tally()
    other.add(tally)
    other.add(tally)
    assert (other.unknown["c7"], other.imputed["a"]) == (2468, 2)
    assert str(schema.Tally()) == ""


@pytest.mark.parametrize(
    "values", [[7, 8], [7.0, 8.0], ["7", "8"], polars.Series(["7", "8"], dtype=polars.Categorical)], ids=str
)
def test_a_category_is_the_same_as_a_number_or_as_text(values):
    found = Schema.of(polars.DataFrame({"c": ["7", "8", "true", "2.5"]}))
    encoded = found.encode(polars.DataFrame({"c": values}), strict=True)
    np.testing.assert_array_equal(encoded.X, [[0, 1, 0, 0], [0, 0, 1, 0]])
    same(found.encode(polars.DataFrame({"c": [True, True]})).X, np.array([[0, 0, 0, 1.0]] * 2))
    same(found.encode(polars.DataFrame({"c": [2.5]})).X, np.array([[1.0, 0, 0, 0]]))


def test_numbers_written_as_text_and_columns_without_any_value():
    found = Schema.of(polars.DataFrame({"a": [1.0, 3.0, None], "b": [True, False, True]}), missing="impute")
    expected = found.encode(polars.DataFrame({"a": [1.0, 3.0], "b": [None, True]}))
    for b in ([None, 1], [None, 1.0], ["", "1"][:0] or [None, "1"]):
        same(found.encode(polars.DataFrame({"a": ["1", "3.0"], "b": b})).X, expected.X)
    for dtype in (polars.String, polars.Null, polars.Int64):
        encoded = found.encode(polars.DataFrame({"a": polars.Series([None, None], dtype=dtype), "b": [True, True]}))
        assert encoded.tally.imputed == {"a": 2}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_that_asked_for_and_computed_in_double_precision(dtype):
    X = np.random.default_rng(0).normal(1e6, 1e-3, (50, 2))
    for table in (X, polars.DataFrame(X, schema=["a", "b"]), sparse.csr_array(X)):
        found = Schema.of(table)
        encoded = found.encode(table, dtype=dtype).X
        assert encoded.dtype == dtype
        same(encoded.astype(dtype), found.encode(table).X.astype(dtype))


# Properties.


@given(frames(), st.data())
def test_a_block_is_encoded_as_it_is_among_others(table, data):
    found = Schema.of(table, missing="impute")
    start = data.draw(st.integers(0, table.height))
    stop = data.draw(st.integers(start, table.height))
    whole = found.encode(table, dtype="float32")
    same(found.encode(table[start:stop], dtype="float32").X, whole.X[start:stop])
    tally = schema.Tally()
    for part in (table[:start], table[start:]):
        tally.add(found.encode(part).tally)
    assert (tally.unknown, tally.imputed) == (whole.tally.unknown, whole.tally.imputed)


@pytest.mark.parametrize("kind", ["array", "frame", "sparse", "dense from sparse"])
def test_many_blocks_equal_one(kind, monkeypatch):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(101, 7)) * (rng.random((101, 7)) < 0.5)
    X[rng.random(X.shape) < 0.1] = np.nan
    table = {"frame": lambda X: polars.DataFrame(X, schema=list("abcdefg")), "array": lambda X: X}.get(
        kind, sparse.csr_array
    )(X)
    found = Schema.of(X if kind == "dense from sparse" else table, missing="impute")
    whole = found.encode(table)
    assert sparse.issparse(whole.X) == (kind == "sparse")
    monkeypatch.setattr(encoding, "AT_ONCE", 40)
    monkeypatch.setattr(encoding, "AT_ONCE_OF_FRAME", 40)
    again = found.encode(table)
    same(whole.X, again.X)
    gaps = dict(zip(found.names, np.isnan(X).sum(axis=0).tolist(), strict=True))
    assert whole.tally.imputed == again.tally.imputed == gaps


@given(frames(gaps=False, kinds=("float", "int")))
def test_a_table_and_an_array_of_the_same_numbers_give_the_same(table):
    X = table.to_numpy().astype(np.float64)
    found = Schema.of(table)
    assert found == Schema.of(X, table.columns)
    assert found == Schema.of(np.asfortranarray(X), table.columns)
    same(found.encode(table).X, found.encode(X).X)


def test_the_sums_do_not_depend_on_the_kind_of_table_or_the_parts():
    X = np.random.default_rng(0).lognormal(size=(3 * learning.ROWS + 5, 3))
    X[::7, 1] = np.nan
    found = [Schema.of(table, list("abc"), missing="impute") for table in (X, polars.DataFrame(X, schema=list("abc")))]
    assert found[0] == found[1]


def test_parts_of_many_columns_give_the_same(monkeypatch):
    X = np.random.default_rng(0).normal(size=(50, 9))
    X[3, 7] = np.nan
    whole = Schema.of(X, missing="impute")
    monkeypatch.setattr(learning, "COLUMNS", 4)
    monkeypatch.setattr(learning, "MEDIANS", 100)
    assert Schema.of(X, missing="impute") == whole
    with pytest.raises(DataError, match=r"^column 'x7', row 3: the value is missing; use --missing impute"):
        Schema.of(X)


@given(frames(), st.randoms())
def test_the_order_of_the_columns_is_irrelevant_and_others_are_ignored(table, random):
    found = Schema.of(table, missing="impute")
    names = table.columns
    random.shuffle(names)
    other = table.select(names).with_columns(unrelated=polars.lit("x"))
    same(found.encode(other).X, found.encode(table).X)


@given(frames(gaps=False, kinds=("text",)), TEXTS)
def test_known_categories_sum_to_1_and_unknown_ones_to_0(table, other):
    for name in table.columns:
        found = Schema.of(table.select(name))
        np.testing.assert_array_equal(found.encode(table, strict=True).X.sum(axis=1), 1.0)
        encoded = found.encode(polars.DataFrame({name: [other, "never seen"]}))
        known = other in found.columns[0].categories
        np.testing.assert_array_equal(encoded.X.sum(axis=1), [known, 0.0])
        assert encoded.tally.unknown[name] == 2 - known


@given(frames(), st.sampled_from(["float32", "float64"]))
def test_json_brings_it_back_bit_for_bit(table, dtype):
    found = Schema.of(table, missing="impute")
    again = Schema.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again == found
    same(again.encode(table, dtype=dtype).X, found.encode(table, dtype=dtype).X)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_any_number_survives_json(numbers):
    column = Numeric("ü", numbers[0], abs(numbers[1]) or 1.0, numbers[1])
    (again,) = Schema.from_json(json.loads(json.dumps(Schema((column,)).to_json()))).columns
    for name in ("mean", "scale", "median"):
        assert getattr(again, name).hex() == getattr(column, name).hex()


# Sparse.


def test_what_is_sparse_stays_so():
    rng = np.random.default_rng(0)
    X = sparse.random_array((200, 6), density=0.2, rng=rng, format="csr", dtype=np.float32)
    X.data += 3.0
    found = Schema.of(X)
    encoded = found.encode(X, dtype="float32").X
    assert isinstance(encoded, sparse.csr_array)
    assert encoded.dtype == "float32"
    assert encoded.nnz == X.nnz
    np.testing.assert_allclose((encoded.toarray() ** 2).mean(axis=0), 1.0, rtol=1e-6)
    assert {column.mean for column in found.columns} == {0.0}
    same(found.encode(X.toarray()).X, found.encode(X).X.toarray())
    for other in (X.tocsc(), X.tocoo(), sparse.csr_matrix(X)):
        same(found.encode(other).X, found.encode(X).X)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_missing_values_in_sparse_tables(seed, indicated):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20, 5)) * (rng.random((20, 5)) < rng.random(5) * 1.5)
    X[0] = rng.normal(size=5)
    gaps = rng.random(X.shape) < 0.2
    gaps[0] = False
    Y = X.copy()
    Y[gaps] = np.nan
    found = Schema.of(sparse.csr_array(Y if indicated else X), missing="impute")
    encoded, dense = found.encode(sparse.csr_array(Y)), found.encode(Y)
    encoded.X.check_format()
    assert encoded.X.has_canonical_format
    np.testing.assert_array_equal(encoded.X.toarray(), dense.X)
    assert encoded.tally.imputed == dense.tally.imputed
    for k, column in enumerate(found.columns):
        assert column.median == np.nanmedian((Y if indicated else X)[:, k])
        filled = np.where(np.isnan(Y[:, k]), column.median, Y[:, k]) if indicated else X[:, k]
        assert column.scale == pytest.approx(np.sqrt(np.mean(filled**2)), rel=1e-12)


def test_repeated_places_of_a_sparse_table_are_summed_and_the_table_left_as_it_is():
    X = sparse.csr_array((np.array([1.0, 2.0]), np.array([0, 0]), np.array([0, 2])), shape=(1, 2))
    encoded = Schema((Numeric("x0", 0.0, 2.0), Numeric("x1", 0.0, 1.0))).encode(X)
    np.testing.assert_array_equal(encoded.X.toarray(), [[1.5, 0.0]])
    assert X.nnz == 2


def test_a_sparse_table_for_a_model_of_dense_ones_becomes_dense():
    X = np.array([[0.0, 2.0], [1.0, 0.0]])
    found = Schema.of(X)
    same(found.encode(sparse.csr_array(X)).X, found.encode(X).X)


# Memory.


def test_a_memory_map_is_never_in_memory_as_a_whole(tmp_path):
    m, n = 60_000, 50
    np.save(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(m, n)).astype(np.float32))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    rows = np.random.default_rng(1).permutation(m)[: m // 2]
    tracemalloc.start()
    try:
        found = Schema.of(X, rows=rows)
        for start in range(0, m, 1000):
            found.encode(X[start : start + 1000], dtype="float32")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.7 * X.nbytes  # of 12 MB
    assert found == Schema.of(np.array(X), rows=np.sort(rows))


def test_a_table_that_stays_on_the_disk_gives_the_same(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    table = polars.DataFrame(
        {
            "a": [None if k % 7 == 2 else float(k) for k in range(100)],
            "c": [None if k % 9 == 4 else "uvw"[k % 3] for k in range(100)],
            "b": rng.random(100) < 0.5,
            "y": rng.normal(size=100),
        }
    )
    table.write_parquet(tmp_path / "t.parquet")
    lazy = load_table(tmp_path / "t.parquet", "y", lazy=True).X
    assert not isinstance(lazy, polars.DataFrame)
    rows = rng.permutation(100)[:60]
    found = Schema.of(lazy, rows=rows, missing="impute")
    assert found == Schema.of(table.drop("y"), rows=rows, missing="impute")
    monkeypatch.setattr(encoding, "AT_ONCE_OF_FRAME", 40)
    same(found.encode(lazy).X, found.encode(table).X)
    same(found.encode(lazy[rows]).X, found.encode(table[rows]).X)


# What is refused.

TABLE = polars.DataFrame({"a": [1.0, 2.0], "c": ["x", "y"], "b": [True, False]})


def lines(row):
    return f"line {row + 2}"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            polars.DataFrame({"a": [1.0, 2.0, None]}),
            "t.csv: column 'a', line 4: the value is missing; use --missing impute (in Python, missing='impute'), "
            "remove such rows, or leave the column out with --ignore a",
        ),
        (polars.DataFrame({"a": [1.0, math.nan]}), "t.csv: column 'a', line 3: the value is missing; use"),
        (polars.DataFrame({"c": ["x", None]}), "t.csv: column 'c', line 3: the value is missing; use"),
        (polars.DataFrame({"b": [True, None]}), "t.csv: column 'b', line 3: the value is missing; use"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), "t.csv: column 'x1', line 3: the value is missing; use"),
        (sparse.csr_array([[1.0, 0.0], [0.0, np.nan]]), "t.csv: column 'x1', line 3: the value is missing; use"),
        (np.array([[1.0, 2.0], [3.0, -np.inf]]), "t.csv: column 'x1', line 3: the value is infinite"),
        (sparse.csr_array([[1.0, 0.0], [0.0, np.inf]]), "t.csv: column 'x1', line 3: the value is infinite"),
        (np.array([[1e300], [-1e300]]), "t.csv: column 'x0': its values are too large to standardise; scale it"),
        (sparse.csr_array([[1e300]]), "t.csv: column 'x0': its values are too large to standardise; scale it"),
        (np.array([[1.7e308], [1.7e308]]), "t.csv: column 'x0': its values are too large to standardise; scale it"),
        (
            polars.DataFrame({"id": [f"row {k}" for k in range(MOST_CATEGORIES + 1)]}),
            "t.csv: column 'id': holds 1,001 different texts, too many for categories (at most 1,000); leave it out "
            "with --ignore id",
        ),
        (polars.DataFrame({"d": [[1], [2]]}), "t.csv: column 'd': holds List(Int64) values; give numbers, booleans or"),
        (np.zeros((0, 2)), "X: there is no row to learn from"),
        (np.zeros(2), "X: holds float64 values in 1 dimension(s); give numbers of shape (rows, columns)"),
        (np.array([["a"]]), "X: holds <U1 values in 2 dimension(s)"),
        ([[1.0]], "X: is a list; give an array of numbers, a sparse array of scipy.sparse, or a polars.DataFrame"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_table_that_cannot_be_learned_from(table, message):
    with pytest.raises(DataError) as problem:
        Schema.of(table, source="t.csv", place=lines)
    assert str(problem.value).startswith(message)


@pytest.mark.parametrize(
    "table",
    [
        np.array([[np.nan], [np.nan]]),
        sparse.csr_array([[np.nan], [np.nan]]),
        polars.DataFrame({"x0": [None, None]}),
        polars.DataFrame({"x0": [math.nan, None]}),
        polars.DataFrame({"x0": polars.Series([None], dtype=polars.String)}),
    ],
)
def test_a_column_without_any_value_is_refused_although_gaps_are_imputed(table):
    with pytest.raises(DataError, match=r"^t.csv: column 'x0': holds no value in the training part; leave it out with"):
        Schema.of(table, missing="impute", source="t.csv")


def test_the_place_is_that_in_the_table_and_not_in_the_training_part():
    X = np.array([[np.nan], [1.0], [np.nan], [2.0]])
    for table in (X, polars.DataFrame({"x0": X[:, 0]}), sparse.csr_array(X)):
        with pytest.raises(DataError, match=r"^column 'x0', row 2: the value is missing"):
            Schema.of(table, rows=np.array([3, 2, 1]))
    text = polars.DataFrame({"c": [None, "a", None, "b"]})
    with pytest.raises(DataError, match=r"^column 'c', row 2: the value is missing"):
        Schema.of(text, rows=np.array([3, 2, 1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["a"]}, "names: has 1 names for 2 columns"),
        ({"names": ["a", "a"]}, "names: give each column a name of its own"),
        ({"missing": "drop"}, "missing: 'drop' is not known; choose from impute, refuse"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message):
    with pytest.raises(DataError) as problem:
        Schema.of(np.zeros((3, 2)), **arguments)
    assert str(problem.value) == message


def test_the_names_of_a_table_choose_among_its_columns():
    assert Schema.of(TABLE, ["b", "a"]).names == ("b", "a")
    with pytest.raises(DataError, match=r"^names: there is no column 'q'"):
        Schema.of(TABLE, ["a", "q"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop("c"), "t.csv: there is no column 'c', which the model was trained on"),
        (np.zeros((2, 2)), "t.csv: X has 2 columns, but the model was trained on 3"),
        (np.zeros((2, 3)), "t.csv: X holds numbers only, but the model needs text in column 'c'; give a table"),
        (TABLE.with_columns(a=polars.Series(["1", "1,5"])), "t.csv: column 'a', line 3: '1,5' is no number, which the"),
        (TABLE.with_columns(a=polars.Series([1.0, math.inf])), "t.csv: column 'a', line 3: the value is infinite"),
        (TABLE.with_columns(a=polars.Series(["1", "inf"])), "t.csv: column 'a', line 3: the value is infinite"),
        (TABLE.with_columns(a=polars.Series([1.0, 1e39])), "t.csv: column 'a', line 3: the value is 1e+39, far beyond"),
        (TABLE.with_columns(b=polars.Series([1, 7])), "t.csv: column 'b', line 3: 7 is neither true (1) nor false (0)"),
        (TABLE.with_columns(c=polars.Series([[1], [2]])), "t.csv: column 'c': holds List(Int64) values; give numbers"),
        (TABLE.with_columns(a=polars.Series([[1], [2]])), "t.csv: column 'a': holds List(Int64) values; give numbers"),
        (
            TABLE.with_columns(a=polars.Series([1.0, None])),
            "t.csv: column 'a', line 3: the value is missing, and training did not allow for it; fill it in, remove "
            "such rows, or train with --missing impute",
        ),
        (TABLE.with_columns(c=polars.Series(["x", None])), "t.csv: column 'c', line 3: the value is missing, and"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_a_table_that_does_not_fit(table, message, monkeypatch):
    found = Schema.of(TABLE)
    for at_once in (encoding.AT_ONCE_OF_FRAME, 1):  # the place is that in the table, whichever part it is in
        monkeypatch.setattr(encoding, "AT_ONCE_OF_FRAME", at_once)
        with pytest.raises(DataError) as problem:
            found.encode(table, dtype="float32", source="t.csv", place=lines)
        assert str(problem.value).startswith(message)


def test_sparse_values_that_do_not_fit():
    found = Schema.of(sparse.csr_array([[1.0, 2.0], [0.0, 1.0]]))
    for value, message in ((np.nan, "the value is missing, and training"), (np.inf, "the value is infinite")):
        with pytest.raises(DataError, match=f"^t.svm: column 'x1', row 1: {message}"):
            found.encode(sparse.csr_array([[1.0, 0.0], [0.0, value]]), source="t.svm")


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: "columns",
        lambda columns: [],
        lambda columns: {"0": columns[0]},
        lambda columns: [*columns, columns[0]],
        lambda columns: [5],
        lambda columns: ["name"],
        lambda columns: [{**columns[0], "kind": "date"}],
        lambda columns: [{**columns[0], "kind": ["numeric"]}],
        lambda columns: [{**columns[0], "mean": math.nan}],
        lambda columns: [{**columns[0], "mean": 1}],
        lambda columns: [{**columns[0], "mean": 10**400}],
        lambda columns: [{**columns[0], "mean": "1"}],
        lambda columns: [{**columns[0], "mean": None}],
        lambda columns: [{**columns[0], "scale": 0.0}],
        lambda columns: [{**columns[0], "scale": -1.0}],
        lambda columns: [{**columns[0], "scale": math.inf}],
        lambda columns: [{**columns[0], "median": math.nan}],
        lambda columns: [{**columns[0], "indicator": 1}],
        lambda columns: [{**columns[0], "indicator": True}],
        lambda columns: [{**columns[0], "boolean": "yes"}],
        lambda columns: [{**columns[0], "width": 3}],
        lambda columns: [{**columns[0], "name": 7}],
        lambda columns: [{**columns[0], "name": "\ud800"}],
        lambda columns: [{k: v for k, v in columns[0].items() if k != "scale"}],
        lambda columns: [{k: v for k, v in columns[1].items() if k != "categories"}],
        lambda columns: [{**columns[1], "categories": "ab"}],
        lambda columns: [{**columns[1], "categories": []}],
        lambda columns: [{**columns[1], "categories": ["a", "a"]}],
        lambda columns: [{**columns[1], "categories": ["a", 5]}],
        lambda columns: [{**columns[1], "categories": ["\udfff"]}],
        lambda columns: [{**columns[1], "categories": [str(k) for k in range(10**6)]}],
        lambda columns: [{**columns[1], "indicator": True}],
        lambda columns: [{**columns[1], "mean": 1.0}],
    ],
)
def test_json_that_is_no_schema(change):
    columns = Schema.of(TABLE).to_json()
    assert Schema.from_json(columns) == Schema.of(TABLE)
    with pytest.raises((TypeError, ValueError, KeyError)):
        Schema.from_json(change(columns))


def test_json_leaves_out_what_is_as_usual():
    """A hundred thousand columns have to fit a model file."""
    assert Schema((Numeric("a", 1.5, 2.0),)).to_json() == [{"kind": "numeric", "name": "a", "mean": 1.5, "scale": 2.0}]


# The documentation.


@pytest.mark.parametrize("module", [schema, model])
def test_the_examples_run(module):
    found = doctest.testmod(module)
    assert found.attempted > 5
    assert found.failed == 0


def test_a_boolean_column_with_another_word_blames_that_word():
    import polars

    schema = Schema.of(polars.DataFrame({"a": [True, False, True]}))
    new = polars.DataFrame({"a": ["true", "maybe", "false"]})
    with pytest.raises(DataError, match="column 'a', row 1: 'maybe' is neither true nor false"):
        schema.encode(new)
    kept = schema.encode(new[[0, 2]]).X
    np.testing.assert_array_equal(kept, schema.encode(polars.DataFrame({"a": [True, False]})).X)
