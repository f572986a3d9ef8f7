"""``accelnn predict``: any kind of file, what training had not seen, and outputs that are whole or not there."""

import io
import os
import subprocess
import sys

import numpy as np
import polars
import pytest
from scipy import sparse
from typer.testing import CliRunner

from accelnn import Network, TableModel
from accelnn.cli import app, console, predicting
from accelnn.datasets import Dataset
from accelnn.readers import load_table

M = 120


def accelnn(*arguments):
    """Run in this process: (exit code, standard output, standard error)."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--backend", "numpy"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(*arguments):
    """The one line on standard error, without its prefix; nothing on standard output."""
    code, out, err = accelnn(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("accelnn: ")
    assert err.count("\n") == 1
    return err[len("accelnn: ") :].strip()


def flats(m=M, seed=0):
    rng = np.random.default_rng(seed)
    return polars.DataFrame(
        {
            "area": polars.Series(np.where(rng.random(m) < 0.1, np.nan, rng.normal(80, 20, m).round(1))).fill_nan(None),
            "town": [None if k % 13 == 5 else ["Ulm", "Bonn", "Kiel"][k % 3] for k in range(m)],
            "code": [["01", "02", "7"][k % 3] for k in range(m)],
            "lift": rng.random(m) < 0.5,
            "rent": rng.normal(700, 90, m).round(2),
        }
    )


def fit(dataset, path, **options):
    model = TableModel.untrained(dataset, None, (6,), "tanh", **{"missing": "impute", "backend": "numpy", **options})
    model.network.fit(*model.encoded(dataset.X, dataset.y), epochs=5, batch_size=32)
    model.save(path)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables and the models ``rent`` (a number), ``lift`` (two classes) and ``town`` (three)."""
    folder = tmp_path_factory.mktemp("predicting")
    flats().write_csv(folder / "flats.csv")
    for target, ignore in (("rent", ()), ("lift", ()), ("town", ("area",))):
        table = flats().filter(polars.col("town").is_not_null()) if target == "town" else flats()
        table.write_csv(folder / f"{target}.csv")
        fit(load_table(folder / f"{target}.csv", target, categorical=["code"], ignore=ignore), folder / target)
    return folder


def test_from_the_command_line_alone(folder, tmp_path):
    table, model = folder / "flats.csv", tmp_path / "m"
    arguments = ("train", table, "--target", "rent", "--categorical", "code", "--epochs", "2", "--out", model)
    assert "the value is missing; use --missing impute" in accelnn(*arguments)[2]
    assert "column 'area', line" in accelnn(*arguments, "--ignore", "town")[2]
    assert not model.exists()
    assert accelnn(*arguments, "--missing", "impute", "--ignore", "lift")[0] == 0
    assert TableModel.load(model, "numpy").schema.names == ("area", "town", "code")
    code, shown, _ = accelnn("predict", model, table)
    assert (code, shown.count("\n")) == (0, M + 1)
    assert accelnn(*arguments, "--ignore", "area", "--ignore", "town")[0] == 0
    assert accelnn("predict", model, table)[::2] == (0, "")


@pytest.mark.parametrize("seed", range(6))
def test_a_gap_in_what_is_held_out_is_found_before_training(seed, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{k if k != 3 else ''},{k * 1.5}\n" for k in range(12)))
    code, out, err = accelnn("train", tmp_path / "t.csv", "--target", "b", "--seed", seed)
    assert (code, "epoch" in out) == (2, False)
    assert err.startswith("accelnn: t.csv: column 'a', line 5: the value is missing")


@pytest.mark.parametrize("target", ["rent", "lift", "town"])
def test_every_kind_of_table_gives_the_same_with_its_columns_in_any_order(target, folder, tmp_path):
    table = flats().drop(target).with_columns(unrelated=polars.lit("x"))
    backwards = table.select(reversed(table.columns))
    table.write_csv(tmp_path / "t.csv")
    table.write_csv(tmp_path / "t.tsv", separator="\t")
    backwards.write_csv(tmp_path / "back.txt")
    backwards.write_parquet(tmp_path / "t.parquet")
    backwards.write_ipc(tmp_path / "t.arrow")
    written = {}
    for name in ("t.csv", "t.tsv", "back.txt", "t.parquet", "t.arrow"):
        code, shown, note = accelnn("predict", folder / target, tmp_path / name, "--out", tmp_path / "out")
        assert (code, shown) == (0, "")
        assert f"120 predictions written to {tmp_path / 'out'}" in note
        written[name] = (tmp_path / "out").read_bytes()
    assert len(set(written.values())) == 1
    code, shown, _ = accelnn("predict", folder / target, tmp_path / "t.csv")
    assert (code, shown.encode()) == (0, written["t.csv"])
    assert written["t.csv"].count(b"\n") == M + 1
    model = TableModel.load(folder / target, "numpy")
    expected = model.predict(
        load_table(folder / "flats.csv", "rent", categorical=["code"]).X.with_columns(flats()["rent"])
    )
    found = polars.read_csv(tmp_path / "out", infer_schema_length=None)
    if target == "rent":
        np.testing.assert_array_equal(found["rent"], expected)
    else:
        np.testing.assert_allclose(found.drop(target).to_numpy(), expected, rtol=1e-5)
        assert found.columns == [target, *(f"p({name})" for name in model.classes)]


def test_arrays_and_sparse_rows(tmp_path):
    X = sparse.random_array((50, 6), density=0.3, rng=np.random.default_rng(0), format="csr", dtype=np.float32)
    y = np.arange(50) % 3
    names = tuple(f"x{k}" for k in range(6))
    dataset = Dataset("t", X, y, "classification", names, ("a", "b", "c"), "y")
    fit(dataset, tmp_path / "m")
    np.save(tmp_path / "t.npy", X.toarray())
    np.savez(tmp_path / "t.npz", X=X.toarray())
    lines = (" ".join(["1", *(f"{j + 1}:{X[k, j]!r}" for j in X[[k]].indices)]) for k in range(50))
    (tmp_path / "t.svm").write_text("\n".join(line.replace("np.float32(", "").replace(")", "") for line in lines))
    polars.DataFrame(X.toarray(), schema=list(names)).write_csv(tmp_path / "t.csv")
    shown = [accelnn("predict", tmp_path / "m", tmp_path / f"t.{kind}")[1] for kind in ("npy", "npz", "svm", "csv")]
    tables = [polars.read_csv(text.encode()) for text in shown]
    for table in tables:
        assert table.height == 50
        assert table["y"].to_list() == tables[0]["y"].to_list()
        np.testing.assert_allclose(table.drop("y").to_numpy(), tables[0].drop("y").to_numpy(), rtol=1e-5)


def test_what_training_had_not_seen_is_one_line_and_no_error(folder, tmp_path):
    table = flats().with_columns(
        town=polars.Series(["Rom"] * 3 + flats()["town"].to_list()[3:]),
        code=polars.Series(["99", *flats()["code"].to_list()[1:]]),
        area=polars.Series([None, *flats()["area"].fill_null(50.0).to_list()[1:]]),
    )
    table.write_csv(tmp_path / "new.csv")
    gaps = table["town"].null_count()
    for out in ((), ("--out", tmp_path / "out")):
        code, _, err = accelnn("predict", folder / "rent", tmp_path / "new.csv", *out)
        assert code == 0
        assert err.splitlines()[0] == (
            "accelnn: warning: new.csv: column 'town': 3 rows have a category that training did not see; column "
            "'code': 1 row has a category that training did not see; column 'area': 1 missing value was filled in; "
            f"column 'town': {gaps} missing values were filled in"
        )
        assert len(err.splitlines()) == (2 if out else 1)


@pytest.mark.parametrize("out", [False, True])
def test_strict_refuses_the_first_of_them_and_writes_nothing(folder, tmp_path, out, monkeypatch):
    monkeypatch.setattr("accelnn.tables.model.AT_ONCE", 300)  # the fault is not in the first part
    rows = flats()["town"].to_list()
    rows[100] = "Rom"
    flats().with_columns(town=polars.Series(rows)).write_csv(tmp_path / "new.csv")
    target = tmp_path / "out"
    target.write_text("as it was")
    arguments = ("predict", folder / "rent", tmp_path / "new.csv", "--strict", *(("--out", target) if out else ()))
    assert refused(*arguments).startswith("new.csv: column 'town', line 102: 'Rom' is a category that training did not")
    assert target.read_text() == "as it was"
    assert sorted(os.listdir(tmp_path)) == ["new.csv", "out"]
    flats().write_csv(tmp_path / "new.csv")
    assert accelnn(*arguments)[0] == 0
    assert (target.read_text() == "as it was") is not out


def test_codes_stay_words(folder, tmp_path):
    """All codes of this table look like numbers; 01 is not 1."""
    (tmp_path / "t.csv").write_text("town,code,lift,area\nUlm,01,true,70\nUlm,7,true,70\nUlm,1,true,70\n")
    code, _, err = accelnn("predict", folder / "rent", tmp_path / "t.csv")
    assert (code, err.splitlines()) == (
        0,
        ["accelnn: warning: t.csv: column 'code': 1 row has a category that training did not see"],
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "town,lift,area\nUlm,true,1\n",
            "has no column 'code', which the model was trained on; it has 'town', '",
        ),
        (
            "t.csv",
            "town,lift,area,code\nUlm,true,q,01\n",
            "column 'area', line 2: 'q' is no number, which the model needs",
        ),
        ("t.csv", "town,lift,area,code\nUlm,7,5,01\n", "column 'lift', line 2: 7 is neither true (1) nor false (0)"),
        ("t.csv", "town,lift,area,code\nUlm,true,inf,01\n", "column 'area', line 2: the value is infinite"),
        (
            "t.csv",
            "town,lift,area,code\nUlm,1,1e300,01\n",
            "column 'area', line 2: the value is 1e+300, far beyond those",
        ),
        ("t.csv", "", "is empty"),
        ("t.npy", np.zeros((3, 4)), "X holds numbers only, but the model needs text in column 'town'; give a table"),
        ("t.npy", np.zeros((3, 5)), "X has 5 columns, but the model was trained on 4"),
    ],
)
def test_a_table_that_does_not_fit(name, content, message, folder, tmp_path):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content)
    assert message in refused("predict", folder / "rent", path)


def test_a_gap_where_training_had_none_allowed(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{k},{k * 1.5}\n" for k in range(30)))
    fit(load_table(tmp_path / "t.csv", "b"), tmp_path / "m", missing="refuse")
    (tmp_path / "new.csv").write_text("a\n1\nNA\n")
    line = refused("predict", tmp_path / "m", tmp_path / "new.csv")
    assert line.startswith(
        "new.csv: column 'a', line 3: the value is missing, and training did not allow for it; fill it"
    )


def test_files_that_are_no_models_of_a_table(folder, tmp_path):
    Network([4, 1], backend="numpy").save(tmp_path / "net")
    line = refused("predict", tmp_path / "net", folder / "flats.csv")
    assert line == f"{tmp_path / 'net'}: holds a network without a table; read it with accelnn.Network.load"
    assert "cannot be read" in refused("predict", tmp_path / "nothing", folder / "flats.csv")
    content = bytearray((folder / "rent").read_bytes())
    content[-1] ^= 1
    (tmp_path / "net").write_bytes(content)
    assert "is damaged" in refused("predict", tmp_path / "net", folder / "flats.csv")


def test_a_disk_that_is_full(folder):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    command = [sys.executable, "-m", "accelnn", "predict", str(folder / "rent"), str(folder / "flats.csv")]
    with open("/dev/full", "w") as full:
        result = subprocess.run([*command, "--backend", "numpy"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2
    assert result.stderr == "accelnn: standard output: cannot be written (No space left on device)\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["inspect", "export", "train", "help"])
def test_every_command_says_that_its_output_is_full(command, unbuffered, folder, tmp_path):
    arguments = {
        "inspect": ("inspect", folder / "rent"),
        "export": ("export", folder / "rent", "--to", "torch", "--out", tmp_path / "m.safetensors"),
        "train": ("train", "iris", "--epochs", "1", "--backend", "numpy"),
        "help": ("--help",),
    }[command]
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "accelnn", *map(str, arguments)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "accelnn: standard output: cannot be written (No space left on device)"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_an_output_that_lacks_characters(encoding, tmp_path):
    table = tmp_path / "t\N{SNOWMAN}.csv"
    table.write_text("a,b\n" + "0,\N{SNOWMAN}\n1,x\n" * 15, encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "accelnn"]
    options = ["--target", "b", "--epochs", "1", "--backend", "numpy", "--out", str(tmp_path / "m")]
    for arguments in (["train", str(table), *options], ["predict", str(tmp_path / "m"), str(table)]):
        result = subprocess.run([*command, *arguments], capture_output=True, env=environment)
        assert (result.returncode, result.stderr) == (0, b"")
    assert "p(\N{SNOWMAN})" in result.stdout.decode()


def test_lines_that_would_steer_a_terminal(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,\x1b[31mred\n2,x\n")
    line = refused("predict", tmp_path / "t\x1b[2J.csv", "iris")
    assert "\x1b" not in line
    assert r"t\x1b[2J.csv" in line
    assert console.visible("\ud800 \N{SNOWMAN}") == r"\ud800 " + "\N{SNOWMAN}"


class Full(io.BytesIO):
    def write(self, data):
        raise OSError(28, "No space left on device")


def test_ctrl_c_on_a_full_disk_is_ctrl_c():
    def write(file):
        file.write("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predicting._as_text(Full(), write)


def test_a_reader_that_has_seen_enough(folder):
    """As in ``accelnn predict ... | head``."""
    command = [sys.executable, "-m", "accelnn", "predict", str(folder / "rent"), str(folder / "flats.csv")]
    process = subprocess.Popen(
        [*command, "--backend", "numpy"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (141, "")
    assert "Traceback" not in err
