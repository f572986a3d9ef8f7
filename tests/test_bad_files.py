"""Tables that cannot be used: each is refused with its place, in one line, and without taking memory."""

import contextlib
import io
import itertools
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from accelnn import DataError, load_table
from accelnn.cli import app
from accelnn.datasets import Dataset
from accelnn.readers import limits, load_features
from accelnn.readers.footer import promise_of
from accelnn.readers.guard import panics_unprinted
from accelnn.readers.sources import ENDINGS

LONG = 200_000


@pytest.fixture
def refused(tmp_path):
    """A function that writes a file, sees it refused by the library and the command line, and returns the message."""

    def attempt(name, content, target="y", **options):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_table(path, target, **options)
        message = str(caught.value)
        assert message.startswith(str(path)), "the file comes first"
        assert "\n" not in message
        assert len(message) < 600
        if not options:
            given = [] if target is None else ["--target", target]
            result = CliRunner().invoke(app, ["train", str(path), *given, "--backend", "numpy"])
            assert isinstance(result.exception, SystemExit)
            assert result.exit_code == 2
            assert result.stderr.startswith("accelnn: ")
            assert result.stderr.count("\n") == 1
        return message.removeprefix(f"{path}: ")

    return attempt


TEXT = {
    "0 bytes": (b"", "is empty"),
    "header only": (b"a,y\n", "has a header but no rows"),
    "header and blank lines": (b"a,y\n\n\r\n\n", "has a header but no rows"),
    "blank first line": (b"\na,y\n1,u\n", "line 1: is blank"),
    "short row": (b"a,b,y\n1,2,u\n3,v\n", "line 3: has 2 fields, and the header has 3"),
    "long row": (b"a,y\n1,u\n2,v,3\n", "line 3: has 3 fields, and the header has 2"),
    "long row after a quoted line break": (b'a,y\n"1\n",u\n2,v,3\n', "line 4: has 3 fields"),
    "long row after blank lines": (b"a,y\r\n\r\n1,u\r\n\r\n2,v,3\r\n", "line 5: has 3 fields"),
    "lone word": (b"a,y\n1,u\nend\n", "line 3: has 1 field,"),
    "NUL": (b"a,y\n1,u\n2,\0\n", "line 3: holds a NUL byte"),
    "UTF-16": ("a,y\n1,u\n2,v\n".encode("utf-16"), "line 1: is UTF-16 or UTF-32; save it as UTF-8"),
    "UTF-16, big end first": (b"\xfe\xff" + "a,y\n1,u\n".encode("utf-16-be"), "line 1: is UTF-16"),
    "UTF-16 without a mark": ("a,y\n1,u\n2,v\n".encode("utf-16-le"), "line 1: is UTF-16"),
    "UTF-16-be without a mark": ("a,y\n1,u\n2,v\n".encode("utf-16-be"), "line 1: is UTF-16"),
    "UTF-32": ("a,y\n1,u\n2,v\n".encode("utf-32"), "line 1: is UTF-16 or UTF-32"),
    "Latin-1": ("a,y\n1,u\n2,Köln\n".encode("latin-1"), "line 3: byte 0xf6 is no UTF-8"),
    "Latin-1 header": ("ä,y\n1,u\n".encode("latin-1"), "line 1: byte 0xe4 is no UTF-8"),
    "cut-off character": ("a,y\n1,u\n2,é".encode()[:-1], "line 3: byte 0xc3 is no UTF-8"),
    "surrogate": (b"a,y\n1,\xed\xa0\x80\n", "line 2: byte 0xed is no UTF-8"),
    "name twice": (b"a,a,y\n1,2,u\n", "line 1: column 'a' occurs twice"),
    "no name": (b",a,y\n0,1,u\n", "line 1: column 1 has no name"),
    "blank name": (b"a, ,y\n0,1,u\n", "line 1: column 2 has no name"),
    "long field": (
        b"a,y\n1,u\n" + b"x" * LONG + b",v\n",
        f"line 3: a field has {LONG:,} bytes, and 131,072 is the most",
    ),
    "long quoted field": (b'a,y\n1,u\n"' + b",\n" * LONG + b'",v\n', "line 3: a field has 400,002 bytes"),
    "long name": (b"a" * LONG + b",y\n1,u\n", "line 1: a field has 200,000 bytes"),
    "open quote": (b'a,y\n1,u\n2,"v\n3,w\n', "line 3: a quote is opened and never closed"),
    "inches": (b'a,y\n1,u\n5" pipe,v\n3" pipe,w\n', "line 3: a quote stands within a field"),
    "text after a quote": (b'a,y\n1,u\n"2"x,v\n', "line 3: a quote stands within a field"),
    "space before a quote": (b'a,y\n1,u\n2, "v"\n', "line 3: a quote stands within a field"),
    "carriage returns": (b"a,y\r1,u\r2,v\r", "line 1: a carriage return stands without a line feed"),
    "carriage return in a row": (b"a,y\n1,u\n2\r,v\n", "line 3: a carriage return stands"),
    "carriage return at the end": (b"a,y\n1,u\n2,v\r", "line 3: a carriage return stands"),
    "semicolons": (b"a;y\n1;u\n", "line 1: the fields are separated by semicolons, not by commas; save it with commas"),
    "semicolons and commas": (b"a;b;y\n1,5;2;u\n", "save it with commas (and write decimal points, not commas)"),
    "tabs": (b"a\ty\n1\tu\n", "line 1: the fields are separated by tabs, not by commas; name it .tsv"),
    "a word among numbers": (
        b"a,y\n1,u\n2,v\nq,u\n",
        "column 'a', line 4: 'q' is no number, as others of the column are",
    ),
    "a number among words": (b"a,y\np,u\nq,v\n7,u\n", "column 'a', line 4: '7' is a number, and others"),
    "mixed after blank lines": (b'a,y\n"1\n",u\n\n\nq,u\n', "column 'a', line 6: 'q' is no number"),
    "mixed target": (b"a,y\n1,1\n2,2\n3,q\n", "column 'y', line 4: 'q' is no number"),
    "decimal commas": (b'a,y\n"1,5",u\n"2,5",v\n', "column 'a', line 2: '1,5' has a comma in a number"),
    "some decimal commas": (b'a,y\n1,u\n"2,5",v\n', "column 'a', line 3: '2,5' has a comma in a number"),
    "thousands": (b'a,y\n,u\n"1,234,567.8",v\n', "column 'a', line 3: '1,234,567.8' has a comma in a number"),
    "dates": (b"a,y\n,u\n2024-02-03,v\n2024-02-04,v\n", "column 'a', line 3: '2024-02-03' is a date or a time"),
    "moments": (b"a,y\n2024-02-03T10:11:12Z,u\n2024-02-03 10:11:12.5+01:00,v\n", "is a date or a time"),
    "times": (b"a,y\n10:11,u\n9:30:01,v\n", "column 'a', line 2: '10:11' is a date or a time"),
    "infinity": (b"a,y\n1,u\n-inf,v\n", "column 'a', line 3: the value is infinite"),
    "beyond float64": (b"a,y\n1,u\n1e999,v\n", "column 'a', line 3: the value is infinite"),
    "no target": (b"a,y\n1,u\n2,\n", "column 'y', line 3: the target is missing"),
    "NaN as target": (b"a,y\n1,1.5\n2,NaN\n", "column 'y', line 3: the target is missing"),
    "infinite target": (b"a,y\n1,1.5\n2,inf\n", "column 'y', line 3: the target is infinite"),
    "one class": (b"a,y\n1,u\n2,u\n", "target 'y' holds one class only (u)"),
    "other target": (b"a,z\n1,u\n", "has no column 'y' (--target); it has 'a', 'z'"),
    "target alone": (b"y\n1\n", "has no column beside the target 'y'"),
    "Parquet": (b"PAR1" + b"\x15\x04\0\0" * 8, "holds a NUL byte"),
    "all bytes": (bytes(range(256)), "line 1: holds a NUL byte"),
}


@pytest.mark.parametrize("case", TEXT)
def test_text(case, refused):
    content, message = TEXT[case]
    assert message in refused("t.csv", content)


def test_decimal_commas_between_tabs(refused):
    assert "column 'a', line 2: '1,5' has a comma in a number" in refused("t.tsv", b"a\ty\n1,5\tu\n2,5\tv\n")
    assert "the fields are separated by commas, not by tabs; name it .csv" in refused("t.tsv", b"a,y\n1,u\n")


def test_the_remedies_help(tmp_path):
    """What the message of a mixed column advises is what makes it readable."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n1,2,u\nq,3,v\n")
    with pytest.raises(
        DataError, match=r"leave the field empty .*\(categorical=, --categorical\).*\(ignore=, --ignore\)"
    ):
        load_table(path, "y")
    assert load_table(path, "y", categorical=["a"]).X["a"].to_list() == ["1", "q"]
    assert load_table(path, "y", ignore=["a"]).features == ("b",)


def test_a_place_far_down_is_found_in_a_moment(tmp_path):
    """No loop of Python's over the rows, either to find what is wrong or to say where."""
    rows = 2_000_000
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * rows + b"\n\nq,3\n")
    with pytest.raises(DataError, match=rf"column 'a', line {rows + 4}: 'q' is no number"):
        load_features(path, ["a", "b"])
    with path.open("ab") as file:
        file.write(b"5\n")
    with pytest.raises(DataError, match=rf"line {rows + 5}: has 1 field,"):
        load_features(path, ["a", "b"])


def test_options_that_fit_no_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n1,2,u\n3,4,v\n")
    for options, message in (
        ({"categorical": ["c"]}, r"has no column 'c' \(--categorical\); it has 'a', 'b', 'y'"),
        ({"ignore": "c"}, r"has no column 'c' \(--ignore\)"),
        ({"ignore": ["y"]}, "--ignore: 'y' is the target"),
        ({"ignore": ["a", "b"]}, "has no column beside the target"),
        ({"categorical": [3]}, "categorical: 3 is no name of a column"),
        ({"task": "clustering"}, "task: 'clustering' is not known"),
        ({"task": "regression"}, "target 'y' holds text"),
    ):
        with pytest.raises(DataError, match=message):
            load_table(path, "y", **options)
    with pytest.raises(DataError, match="name the column to predict with --target; it has 'a', 'b', 'y'"):
        load_table(path)


# Paths.


def test_what_is_no_file(tmp_path, monkeypatch):
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "t.xls").write_text("a,y\n")
    (tmp_path / "t").write_text("a,y\n")
    for source, message in (
        (tmp_path / "folder.csv", "is a folder; give a file"),
        (tmp_path / "pipe.csv", "is a pipe or a device"),
        (tmp_path / "t.xls", r"'\.xls' does not say what it holds; give one of \.csv, "),
        (tmp_path / "t", "no ending does not say what it holds"),
        (tmp_path / "none.csv", r"no such file, and no built-in data set of this name \(there are breast_cancer"),
        (tmp_path / "t.xls" / "t.csv", "no such file"),
        ("a\0b.csv", "cannot be read"),
        ("x" * 5000 + ".csv", "cannot be read"),
        ("", "is a folder"),
        (5, "source: : a int is no path"),
        (polars.DataFrame({"a": [1]}), "a DataFrame is no path"),
    ):
        with pytest.raises(DataError, match=message.replace(": : ", ": ")):
            load_table(source, "y")


def test_what_may_not_be_read(tmp_path, monkeypatch):
    """As the super-user may read anything, the refusal is the system's own, made up."""
    from pathlib import Path

    def deny(*arguments):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "t.csv"
    path.write_text("a,y\n1,u\n2,v\n")
    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(DataError, match=r"t\.csv: cannot be read \(Permission denied\)"):
        load_table(path, "y")


# Arrays.


def npy(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), **options)
    return file.getvalue()


def header(text, version=1, length=None):
    text = text.encode()
    length = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", length) + text


def about(descr="'<f8'", fortran="False", shape="(3, 2)"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


GOOD = npy(np.arange(6.0).reshape(3, 2))
ARRAYS = {
    "pretends": (header(about(shape="(1000000, 1000000)")) + bytes(48), "promises 8,000,000,000,000 bytes"),
    "overflows": (header(about(shape="(4294967296, 4294967296)")) + bytes(48), "and 48 follow; the file is cut off"),
    "one byte short": (GOOD[:-1], "and 47 follow"),
    "one byte long": (GOOD + b"x", "and 49 follow"),
    "negative": (header(about(shape="(-3, -2)")) + bytes(48), "says that the shape is (-3, -2)"),
    "no integers": (header(about(shape="(3.0, 2)")) + bytes(48), "its description cannot be read"),
    "no tuple": (header(about(shape="6")) + bytes(48), "its description cannot be read"),
    "no type": (header(about(descr="'quaternion'")) + bytes(48), "its description cannot be read"),
    "no literal": (header("import os\n") + bytes(48), "its description cannot be read"),
    "no UTF-8": (b"\x93NUMPY\x03\0\x04\0\0\0\xff\xfe{}", "its description cannot be read"),
    "parentheses": (header("(" * 9000) + bytes(48), "its description cannot be read"),
    "minus signs": (header("-" * 9000 + "1") + bytes(48), "its description cannot be read"),
    "not quite a dictionary": (header("{'descr': 1}") + bytes(48), "its description cannot be read"),
    "4 GB of description": (header("{", 2, 2**32 - 1), "its description has 4,294,967,295 bytes"),
    "cut-off description": (GOOD[:40], "is cut off in its description"),
    "cut-off length": (GOOD[:9], "is cut off in its description"),
    "cut-off name": (GOOD[:5], "is no array in the NPY format"),
    "another version": (b"\x93NUMPY\x09" + GOOD[7:], "is of version 9"),
    "another format": (b"a,y\n1,2\n", "is no array in the NPY format (it begins with b'a,y"),
    "objects": (npy(np.array([[{}, []]], dtype=object)), "holds Python objects"),
    "a structure": (npy(np.zeros(3, dtype=[("a", "f8")])), "save plain numbers or text"),
    "complex": (npy(np.zeros((3, 2), complex)), "holds complex128 values"),
    "dates": (npy(np.zeros((3, 2), "M8[s]")), "holds datetime64[s] values"),
    "text": (npy(np.array([["a", "b"]])), "X holds <U1 values; give numbers"),
    "a vector": (npy(np.zeros(3)), "X has shape (3,), expected (rows, columns)"),
    "a number": (npy(1.0), "X has shape ()"),
    "nothing": (npy(np.zeros((0, 2))), "X has shape (0, 2)"),
    "no columns": (npy(np.zeros((2, 0))), "X has shape (2, 0)"),
    "letters without size": (header(about(descr="'<U0'", shape="(1000000000000, 2)")), "save plain numbers or text"),
    "infinity": (npy(np.array([[1.0, 2.0], [3.0, -np.inf]])), "column 'x1', row 1: the value is infinite"),
    "infinity by columns": (npy(np.asfortranarray([[1.0, 2.0, 1.0], [3.0, np.inf, 0.0]])), "column 'x1', row 1: the"),
    "too many columns": (npy(np.zeros((1, 2**22 + 1), bool)), "X has 4,194,305 columns"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_npy(case, tmp_path, refused):
    content, message = ARRAYS[case]
    np.save(tmp_path / "y.npy", [0, 1, 0])
    assert message in refused("t.npy", content, target=str(tmp_path / "y.npy"))


def test_npy_cut_off_anywhere(tmp_path):
    for end in range(1, len(GOOD)):
        (tmp_path / "t.npy").write_bytes(GOOD[:end])
        with pytest.raises(DataError):
            load_features(tmp_path / "t.npy", ["x0", "x1"])


def test_targets_of_arrays(tmp_path, refused):
    np.save(tmp_path / "long.npy", np.arange(4))
    np.save(tmp_path / "matrix.npy", np.zeros((3, 2)))
    np.save(tmp_path / "gap.npy", [0.5, np.nan, 1.5])
    np.save(tmp_path / "words.npy", ["a", "", "b"])
    np.save(tmp_path / "bytes.npy", [b"a", b"\xff", b"b"])
    np.save(tmp_path / "no_character.npy", np.array([[1, 0x7FFFFFFF, 2]], "<u4").view("<U1")[0])
    np.save(tmp_path / "half.npy", np.array([[97, 0xD800, 98]], "<u4").view("<U1")[0])
    assert "name the NPY file that holds y with --target" in refused("t.npy", GOOD, target=None)
    (tmp_path / "t.npy").write_bytes(GOOD)
    for target, message in (
        ("long.npy", r"long\.npy: has shape \(4,\), expected \(3,\) beside X of shape \(3, 2\)"),
        ("matrix.npy", r"has shape \(3, 2\), expected \(3,\)"),
        ("gap.npy", r"gap\.npy: column 'gap', row 1: the target is missing"),
        ("words.npy", "column 'words', row 1: the target is missing"),
        ("bytes.npy", "holds text that is no Unicode"),
        ("no_character.npy", "holds text that is no Unicode"),
        ("half.npy", "holds text that is no Unicode"),
        ("none.npy", r"--target: .*none\.npy: no such file$"),
        ("y", "--target: '.*y' is no NPY file"),
    ):
        with pytest.raises(DataError, match=message):
            load_table(tmp_path / "t.npy", str(tmp_path / target))
    with pytest.raises(DataError, match=r"--categorical: .* has columns of numbers without names"):
        load_table(tmp_path / "t.npy", str(tmp_path / "long.npy"), categorical=["x0"])
    with pytest.raises(DataError, match="X has 2 columns, but the model was trained on 3"):
        load_features(tmp_path / "t.npy", ["x0", "x1", "x2"])


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def zipped(method=zipfile.ZIP_DEFLATED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def twice():
    """Two members are given one name afterwards, which zipfile would not do without a warning."""
    return zipped(zipfile.ZIP_STORED, X=GOOD, Z=GOOD).replace(b"Z.npy", b"X.npy")


def encrypted():
    """Flags say that a password is needed."""
    content = bytearray(zipped(X=GOOD))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


def flipped():
    content = bytearray(npz(X=np.arange(6.0).reshape(3, 2), y=np.arange(3)))
    content[content.index(np.float64(5.0).tobytes())] ^= 1
    return bytes(content)


ARCHIVES = {
    "no zip": (lambda: b"PK\x03\x04 and nothing more", "cannot be read as NPZ"),
    "cut off": (lambda: npz(X=np.zeros((3, 2)), y=np.zeros(3))[:-30], "cannot be read as NPZ"),
    "an array": (lambda: GOOD, "holds one unnamed array; save X and y with numpy.savez"),
    "no X": (lambda: npz(Z=np.zeros(3)), "holds no array 'X'; it has 'Z'"),
    "no y": (lambda: npz(X=np.zeros((3, 2))), "holds no array 'y'; add it, or name the NPY file"),
    "objects": (lambda: npz(X=np.array([[{}]], dtype=object), y=[1]), "array 'X': holds Python objects"),
    "text": (lambda: zipped(X=b"1,2\n3,4\n"), "array 'X': is no array in the NPY format"),
    "short": (lambda: zipped(X=GOOD[:-8], y=GOOD), "array 'X': its description promises 48 bytes"),
    "twice": (twice, "holds two arrays named 'X'"),
    "encrypted": (encrypted, "cannot be read as NPZ"),
    "LZMA": (lambda: zipped(zipfile.ZIP_LZMA, X=GOOD), "array 'X' is compressed in a way that NumPy does not use"),
    "a flipped bit": (flipped, "Bad CRC-32"),
    "shapes apart": (lambda: npz(X=np.zeros((3, 2)), y=np.arange(4)), "y has shape (4,), expected (3,)"),
    "infinity": (lambda: npz(X=np.array([[np.inf]]), y=[1]), "column 'x0', row 0: the value is infinite"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_npz(case, refused):
    make, message = ARCHIVES[case]
    assert message in refused("t.npz", make(), target=None)


# Sparse rows.

SPARSE = {
    "index 0": (b"1 1:2\n0 0:2 1:1\n", "line 2: index 0; indices begin at 1"),
    "negative index": (b"# c\n\n1 1:2\n0 -1:2\n", "line 4: index '-1' is negative"),
    "index twice": (b"1 1:2\n0 2:2 2:1\n", "line 2: index 2 occurs twice"),
    "index out of order": (b"1 1:2\n0 3:2 2:1\n", "line 2: index 2 follows 3"),
    "index and a half": (b"1 1.5:2\n", "line 1: index '1.5' is no whole number"),
    "word as index": (b"1 a:2\n", "line 1: index 'a' is no whole number"),
    "index beyond int32": (b"1 1:2\n1 3000000000:2\n", "line 2: index '3000000000' is beyond 4,194,304"),
    "index of 10**12": (b"1 1:2\n1 1000000000000:2\n", "line 2: index '1000000000000' is beyond 4,194,304"),
    "index beyond int64": (b"1 99999999999999999999999:2\n", "line 1: index '99999999999999999999999' is beyond"),
    "index just beyond": (b"1 1:2\n0 4194305:1\n", "line 2: index '4194305' is beyond 4,194,304"),
    "word as value": (b"1 1:2\n0 1:x\n", "line 2: the value 'x' of index 1 is no number"),
    "no value": (b"1 1:2\n0 1\n", "line 2: '1' is no pair such as 3:0.5"),
    "infinity": (b"1 1:2\n0 2:inf\n", "line 2: column 'x1' (index 2): the value is infinite"),
    "word as target": (b"1 1:2\nq 1:1\n", "line 2: the target 'q' is no number"),
    "several targets": (b"1,2 1:2\n", "line 1: the target '1,2' is no number"),
    "NaN as target": (b"1.5 1:2\nnan 1:1\n", "column 'target', line 2: the target is missing"),
    "byte order mark": (b"\xef\xbb\xbf1 1:2\n", "the file begins with a byte order mark"),
    "comments": (b"# nothing\n", "has no rows"),
    "targets alone": (b"1\n0\n", "has no values beside the target"),
    "one class": (b"1 1:2\n1 1:3\n", "target 'target' holds one class only (1)"),
}


@pytest.mark.parametrize("case", SPARSE)
def test_svmlight(case, refused):
    content, message = SPARSE[case]
    assert message in refused("t.svm", content, target=None)


def test_svmlight_brings_its_target(tmp_path):
    (tmp_path / "t.svm").write_bytes(b"1 1:2\n0 1:1\n")
    with pytest.raises(DataError, match=r"--target: .*t\.svm holds its target in front of each row"):
        load_table(tmp_path / "t.svm", "y")


# Parquet and Arrow.


def written(kind, frame, **options):
    file = io.BytesIO()
    (frame.write_parquet if kind == "parquet" else frame.write_ipc)(file, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_typed_columns_that_are_no_features(kind, refused):
    from datetime import date, datetime, time, timedelta

    for name, values in {
        "Date": [date(2024, 1, 2)] * 2,
        "Datetime": [datetime(2024, 1, 2)] * 2,
        "Time": [time(1)] * 2,
        "Duration": [timedelta(1)] * 2,
        "List": [[1], [2]],
        "Struct": [{"a": 1}, {"a": 2}],
        "Binary": [b"a", b"b"],
    }.items():
        frame = polars.DataFrame({"a": values, "y": [0, 1]})
        message = refused(f"t.{kind}", written(kind, frame))
        assert message.startswith(f"column 'a': holds {name}")
        assert "(ignore=, --ignore)" in message
    frame = polars.DataFrame({"": [1, 2], "y": [0, 1]})
    assert "column 1 has no name" in refused(f"t.{kind}", written(kind, frame))
    assert "has columns but no rows" in refused(f"t.{kind}", written(kind, frame.rename({"": "a"}).head(0)))
    frame = polars.DataFrame({"a": [1.0, 2.0, float("-inf")], "y": [0, 1, 0]})
    assert "column 'a', row 2: the value is infinite" in refused(f"t.{kind}", written(kind, frame))
    frame = polars.DataFrame({"a": [1.0, 2.0, 3.0], "y": [0, 1, None]})
    assert "column 'y', row 2: the target is missing" in refused(f"t.{kind}", written(kind, frame))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_typed_files_cut_off_or_of_another_kind(kind, refused):
    content = written(kind, polars.DataFrame({"a": range(100), "y": [0, 1] * 50}))
    what = "Parquet" if kind == "parquet" else "an Arrow file"
    for wrong in (content[:-1], content[: len(content) // 2], content[:4], b"a,y\n1,2\n", bytes(1000), content[5:]):
        assert f"cannot be read as {what}" in refused(f"t.{kind}", wrong)


def varint(number):
    """As Thrift's compact protocol writes an i64."""
    number, out = number << 1, b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def lying_parquet(places, claim, rows=1237):
    """A file whose footer says `claim` where it said `rows`, at the places of this order."""
    frame = polars.DataFrame({"a": [float(k % 5) for k in range(rows)], "y": [k % 3 for k in range(rows)]})
    content = written("parquet", frame, statistics=False)
    (length,) = struct.unpack("<I", content[-8:-4])
    body, footer = content[: -8 - length], content[-8 - length : -8]
    true = varint(rows)
    found = [place for place in range(len(footer)) if footer.startswith(true, place)]
    assert len(found) >= 3
    for k in sorted(places, reverse=True):
        footer = footer[: found[k]] + varint(claim) + footer[found[k] + len(true) :]
    return body + footer + struct.pack("<I", len(footer)) + b"PAR1"


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy", "svm"])
def test_an_infinity_among_rows_to_predict(kind, tmp_path):
    path, frame = tmp_path / f"t.{kind}", polars.DataFrame({"x0": [1.0, 2.0, -np.inf]})
    if kind == "csv":
        frame.write_csv(path)
    elif kind == "parquet":
        frame.write_parquet(path)
    else:
        path.write_bytes(npy(frame.to_numpy()) if kind == "npy" else b"0 1:1\n0 1:2\n0 1:-inf\n")
    place = {"csv": "line 4", "svm": "line 3"}.get(kind, "row 2")
    with pytest.raises(DataError, match="the value is infinite") as caught:
        load_features(path, ["x0"])
    assert place in str(caught.value)
    assert "column 'x0'" in str(caught.value)


@pytest.mark.parametrize("claim", [3, 2000, 2**31, 10**12])
def test_parquet_that_lies_about_its_rows(claim, tmp_path, capfd):
    """No rows are lost in silence, unless all of the footer says that they are not there. A panic prints nothing."""
    refusals = 0
    of_the_file, of_the_group = 0, 3  # the places between are the columns'
    for size in (1, 2, 4):
        for places in itertools.combinations(range(4), size):
            (tmp_path / "t.parquet").write_bytes(lying_parquet(places, claim))
            try:
                rows = len(load_table(tmp_path / "t.parquet", "y").y)
            except DataError:
                refusals += 1
            else:
                assert rows == 1237 or (rows == claim and {of_the_file, of_the_group} <= set(places))
    assert refusals >= 6
    assert capfd.readouterr().err == ""
    (tmp_path / "t.parquet").write_bytes(lying_parquet([of_the_file], claim))
    with pytest.raises(DataError, match=f"its footer promises {claim:,} rows, and its parts promise others"):
        load_features(tmp_path / "t.parquet", ["a"])


def test_footers_of_parquet(tmp_path):
    """Every byte of a footer in turn is another: it is refused, or says the same of the rows."""
    frame = polars.DataFrame({"a": [1, None, 3] * 20, "b": ["p", "q", None] * 20})
    path = tmp_path / "t.parquet"
    content = written("parquet", frame, row_group_size=30)
    path.write_bytes(content)
    promise = promise_of(path)
    assert promise.rows == 60
    assert 60 <= promise.size < 10_000
    (length,) = struct.unpack("<I", content[-8:-4])
    for place in range(len(content) - 8 - length, len(content) - 8):
        for value in (0, 0xFF):
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            with contextlib.suppress(DataError):
                assert promise_of(path).rows >= 0
    for length in (2**32 - 1, len(content), 2**27):
        path.write_bytes(content[:-8] + struct.pack("<I", length) + b"PAR1")
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            load_table(path, "y")
    with path.open("wb") as file:
        file.seek(2**27 + 100)
        file.write(struct.pack("<I", 2**27) + b"PAR1")
    with pytest.raises(DataError, match="its footer has 134,217,728 bytes, and 67,108,864 is the most"):
        promise_of(path)


def test_a_panic_of_polars_is_one_line(tmp_path, monkeypatch, refused):
    import polars.exceptions

    def panic(*arguments, **options):
        os.write(2, b"thread '<unnamed>' panicked at crates/x.rs:1:2:\n")
        raise polars.exceptions.PanicException("called `Option::unwrap()`\nnote: more")

    monkeypatch.setattr(polars, "scan_parquet", panic)
    message = "cannot be read as Parquet, and is probably damaged (called `Option::unwrap()`)"
    assert refused("t.parquet", b"PAR1") == message


def test_a_panic_is_not_printed_and_anything_else_is(capfd):
    with panics_unprinted():
        os.write(2, b"kept\n")
    assert capfd.readouterr().err == "kept\n"

    class PanicException(BaseException):
        pass

    def end_with(problem, text):
        with panics_unprinted():
            os.write(2, text)
            raise problem

    with pytest.raises(PanicException):
        end_with(PanicException(), b"dropped\n")
    with pytest.raises(KeyError):
        end_with(KeyError(), b"also kept\n")
    assert capfd.readouterr().err == "also kept\n"


@pytest.mark.parametrize("closed", ["before", "later"])
def test_tables_without_standard_error(closed, tmp_path):
    """As in a service: there is nothing to keep clean, and descriptor 2 may be another file's."""
    polars.DataFrame({"a": [1, 2, 3], "y": [0, 1, 0]}).write_parquet(tmp_path / "t.parquet")
    code = f"""if True:
        import os
        if {closed == "later"}:
            os.close(2)
        from accelnn import load_table
        print(len(load_table({str(tmp_path / "t.parquet")!r}, "y").y))
    """
    script = '"$0" -c "$1" 2>&-' if closed == "before" else '"$0" -c "$1"'
    result = subprocess.run(["sh", "-c", script, sys.executable, code], stdout=subprocess.PIPE, text=True, timeout=60)
    assert result.stdout == "3\n"


def test_tables_are_read_in_threads(tmp_path, capfd):
    """Whoever ends first, standard error is as it was."""
    from concurrent.futures import ThreadPoolExecutor

    polars.DataFrame({"a": [1, 2, 3], "y": [0, 1, 0]}).write_parquet(tmp_path / "t.parquet")
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: len(load_table(tmp_path / "t.parquet", "y").y), range(40)))
    assert found == [3] * 40
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == "still here\n"


# What is large only once it is unpacked, or pretends to be.


def bomb(size, declared=None, described=None):
    """An NPZ whose X is `size` bytes of zeros; the sizes in its directory and in X's description may be others."""
    described = size if described is None else described
    start = header(about(shape=f"({described // 8}, 1)"))
    declared = len(start) + size if declared is None else declared
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    # A piece before and after which nothing is remembered can be repeated.
    piece = zlib.compressobj(9, zlib.DEFLATED, -15)
    repeated = piece.compress(bytes(2**24)) + piece.flush(zlib.Z_FULL_FLUSH)
    content = begin + repeated * (size // 2**24) + packer.flush(zlib.Z_FINISH)
    long = struct.pack("<HHQQ", 1, 16, declared, len(content))
    common = struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 33, 0, 2**32 - 1, 2**32 - 1, 5, len(long))
    member = b"PK\3\4" + common + b"X.npy" + long + content
    directory = b"PK\1\2" + struct.pack("<H", 45) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + b"X.npy" + long
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(directory), len(member), 0)
    return member + directory + end


MEMORY = 2**28  # bytes that a refusal may take: blocks of text and their marks, one piece of an archive
TEN = 10 * 2**30  # unpacked
LARGE = 2**27  # of the files whose rows have no end
END = "16,777,216 bytes, the most that is read"

FEATURES, TABLE = "load_features(path, ['x0'])", "load_table(path, 'y')"
TOO_LARGE = {
    "array of 10**12 values": (
        *("t.npy", lambda: header(about(shape="(1000000000000, 1)")) + bytes(8), FEATURES),
        "promises 8,000,000,000,000 bytes",
    ),
    "index of 10**12": (
        *("t.svm", lambda: b"1 1:1 1000000000000:1\n", "load_table(path)"),
        "line 1: index '1000000000000' is beyond 4,194,304",
    ),
    "100,000 columns": (
        *("t.csv", lambda: b",".join(b"c%d" % k for k in range(100_000)) + b"\n" + b"1," * 99_999 + b"1\n", TABLE),
        "line 1: has 100,000 columns, and a text table may have 50,000; save it as NPY, or as svmlight",
    ),
    "field of 200 kB": (
        *("t.csv", lambda: b"a,y\n" + b"x" * LONG + b",1\n", TABLE),
        "line 2: a field has 200,000 bytes, and 131,072 is the most",
    ),
    "field without end": ("t.csv", lambda: b"a,y\n" + b"x" * LARGE, TABLE, f"line 2: the row is longer than {END}"),
    "quote without end": (
        *("t.csv", lambda: b'a,y\n"' + b"1,2\n" * (LARGE // 4), TABLE),
        f"line 2: the row is longer than {END}; is a quote opened and never closed?",
    ),
    "line without end": ("t.svm", lambda: b"1 " + b"1:1 " * (LARGE // 4), "load_table(path)", f"longer than {END}"),
    "zeros": ("t.csv", lambda: bytes(2 * LARGE), TABLE, "line 1: is UTF-16 or UTF-32"),
    "bomb": ("t.npz", lambda: bomb(TEN), FEATURES, "would unpack to 10.0 GiB, and 2 GiB is the most"),
    "bomb whose directory lies": ("t.npz", lambda: bomb(TEN, declared=1000), FEATURES, "cannot be read as NPZ"),
    "bomb whose directory and description lie": (
        *("t.npz", lambda: bomb(TEN, declared=len(header(about(shape="(10, 1)"))) + 80, described=80), FEATURES),
        "cannot be read as NPZ of plain arrays",
    ),
}

WATCHED = """if True:
    import json, sys
    import numpy, polars, sklearn.datasets, scipy.sparse, zipfile
    from accelnn import DataError, load_table
    from accelnn.benchmark import memory
    from accelnn.readers import load_features
    polars.DataFrame({"a": [1.0]}).select(polars.all().cast(polars.String))
    for line in sys.stdin:
        path, call = json.loads(line)
        memory.reset_peak()
        before = memory.resident()
        try:
            eval(call)
        except DataError as problem:
            print(json.dumps([memory.peak() - before, str(problem)]), flush=True)
"""


@pytest.fixture(scope="module")
def watched():
    """A function that has a process read a file; returns the bytes by which it grew meanwhile, and what it was told."""
    with subprocess.Popen(
        [sys.executable, "-c", WATCHED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def read(path, call):
            process.stdin.write(json.dumps([str(path), call]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield read
        process.stdin.close()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is known on Linux alone")
@pytest.mark.parametrize("case", TOO_LARGE)
def test_what_is_too_large_is_refused_without_taking_memory(case, watched, tmp_path):
    name, make, call, expected = TOO_LARGE[case]
    content = make()
    (tmp_path / name).write_bytes(content)
    grown, message = watched(tmp_path / name, call)
    assert expected in message
    assert grown < MEMORY
    if "bomb" in case:
        assert len(content) < 2**24


def test_an_archive_within_the_limit_is_unpacked(tmp_path):
    """The same bomb, made smaller: what is refused above is refused for its size."""
    size = 2**25
    content = bomb(size)
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):  # which was not computed
        load_features(tmp_path / "t.npz", ["x0"])


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 2**22)


def test_what_would_not_fit_into_free_memory(tmp_path, refused, little_memory):
    """Each kind says so before it takes any; an NPY file of floats need not fit."""
    many = polars.DataFrame({"a": polars.repeat(0.5, 2**20, eager=True), "y": polars.repeat(1, 2**20, eager=True)})
    start = "would take 0.0 GiB of memory, and 0.0 GiB are free"
    for kind in ("parquet", "arrow"):
        content = written(kind, many, compression="zstd")
        assert len(content) < 2**17
        assert f"1,048,576 rows {start}" in refused(f"t.{kind}", content)
    assert start in refused("t.csv", b"a,y\n" + b"1,2\n" * 2**17)
    assert start in refused("t.svm", b"1 1:1\n" * 2**17, target=None)
    assert start in refused("t.npz", npz(X=np.zeros((2**20, 1)), y=np.zeros(2**20)), target=None)
    np.save(tmp_path / "y.npy", np.arange(2**20) % 2)
    assert start in refused("t.npy", npy(np.zeros((2**20, 1), np.int64)), target=str(tmp_path / "y.npy"))
    np.save(tmp_path / "t.npy", np.zeros((2**20, 1), np.float32))
    assert len(load_table(tmp_path / "t.npy", str(tmp_path / "y.npy")).y) == 2**20


def test_free_memory_is_that_of_the_system_and_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "_SYSTEM", tmp_path / "meminfo")
    monkeypatch.setattr(limits, "_CONTAINER", tmp_path)
    assert limits.free_memory() is None
    limits.require_memory("x", 2**70, "y")  # nobody knows better
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  5 kB\n")
    assert limits.free_memory() == 5 * 1024
    (tmp_path / "memory.current").write_text("4000\n")
    (tmp_path / "memory.stat").write_text("anon 10\ninactive_file 100\nactive_file 200\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert limits.free_memory() == 5 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert limits.free_memory() == 5000 - 4000 + 300
    with pytest.raises(DataError, match=r"x would take more than 2\*\*30 GiB of memory, and 0\.0 GiB are free; y"):
        limits.require_memory("x", 2**70, "y")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the kinds of a process's memory are known on Linux alone")
def test_an_npy_file_is_never_in_memory_as_a_whole(tmp_path):
    """Memory of the process's own, which pages of a mapped file are not."""
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", "float32", (2**20, 128))
    X[:] = 1.0
    del X
    np.save(tmp_path / "y.npy", np.arange(2**20) % 2)
    code = f"""if True:
        import numpy
        from pathlib import Path
        from accelnn import load_table
        from accelnn.readers import split
        load_table("iris")
        def held():
            lines = Path("/proc/self/status").read_text().splitlines()
            return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])
        before = held()
        dataset = load_table({str(tmp_path / "X.npy")!r}, {str(tmp_path / "y.npy")!r})
        print(dataset.X.nbytes, held() - before, float(dataset.X[numpy.arange(0, 2**20, 2**19)].sum()))
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    size, grown, total = result.stdout.split()
    assert (int(size), float(total)) == (2**29, 256.0)
    assert int(grown) < 2**27


# Anything at all.

SAMPLES = {
    ".csv": b'a,b,y\n1,"x, y",u\n2,"z\n",v\n,NA,u\n',
    ".tsv": b"a\tb\ty\n1\tx\tu\n2\tz\tv\n",
    ".parquet": written("parquet", polars.DataFrame({"a": [1, None, 3], "b": ["p", "q", None], "y": [0, 1, 0]})),
    ".arrow": written("arrow", polars.DataFrame({"a": [1, None, 3], "b": ["p", "q", None], "y": [0, 1, 0]})),
    ".feather": written(
        "arrow", polars.DataFrame({"a": [1.5] * 200, "b": ["p", "q"] * 100, "y": [0, 1] * 100}), compression="zstd"
    ),
    ".npz": npz(X=np.arange(6.0).reshape(3, 2), y=np.arange(3)),
    ".npy": GOOD,
    ".svm": b"1 1:2 3:4\n0 2:1 # c\n",
}


def only_data_errors(path):
    for read in (lambda: load_table(path, "y"), lambda: load_table(path), lambda: load_features(path, ["a", "b"])):
        with contextlib.suppress(DataError):
            found = read()
            assert not isinstance(found, Dataset) or len(found.y) >= 2


@given(st.sampled_from(ENDINGS), st.binary(max_size=60))
@settings(max_examples=300)
def test_any_bytes_under_any_ending(tmp_path_factory, ending, content):
    path = tmp_path_factory.getbasetemp() / f"any{ending}"
    path.write_bytes(content)
    only_data_errors(path)


@given(st.sampled_from(list(SAMPLES)), st.data())
@settings(max_examples=300)
def test_any_damage_to_a_good_file(tmp_path_factory, ending, data):
    content = bytearray(SAMPLES[ending])
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.sampled_from([0, 1, 10, 34, 44, 127, 255]))
    path = tmp_path_factory.getbasetemp() / f"damaged{ending}"
    path.write_bytes(content)
    only_data_errors(path)
