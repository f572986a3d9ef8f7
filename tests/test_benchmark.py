"""``accelnn bench``: the same problem for everyone, equal losses before any timing, and a report that hides nothing."""

import importlib
import io
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from accelnn import DataError, Network
from accelnn.benchmark import cases, command, figures, machine, memory, messages, parity, picture, report, rounds
from accelnn.benchmark.cases import CASES, Case, problem
from accelnn.benchmark.contestants import ENTRIES, Entry, why_missing
from accelnn.benchmark.processes import THREADS, Process, WorkerFailure
from accelnn.cli import app

# Small, with a smaller last batch; one for each loss.
SMALL = {
    "sigmoid": Case("s", (3, 4, 1), "tanh", "sigmoid", "binary_cross_entropy", "sgd", 3.0, 16, 40, "float64"),
    "sigmoids": Case("m", (3, 4, 2), "relu", "sigmoid", "binary_cross_entropy", "sgd", 0.2, 16, 40, "float64"),
    "softmax": Case("c", (3, 5, 4), "relu", "softmax", "cross_entropy", "sgd", 0.2, 16, 40, "float64"),
    "identity": Case("i", (3, 4, 2), "sigmoid", "identity", "squared_error", "sgd", 0.1, 16, 40, "float64"),
}
QUICK = rounds.Settings(threads=1, rounds=2, seconds=0.005, settle=0.0)


def ignore(what, done, total):
    """A watch that does not look."""


def create(name, data, **options):
    entry = ENTRIES[name]
    backend = {"backend": entry.backend} if entry.backend else {}
    return importlib.import_module(entry.module).create(data, 1, **backend, **options)


def contestants(*families):
    return [name for name, entry in ENTRIES.items() if entry.family in families and entry.backend != "cupy"]


# Cases.


def test_data_and_weights_are_the_same_every_time():
    first, second = problem(CASES["64-100-10"]), problem(CASES["64-100-10"])
    for one, other in zip(
        [first.X, first.Y, first.labels, *first.W[1:]], [second.X, second.Y, second.labels, *second.W[1:]], strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("2048")])
def test_a_case_is_whole(name):
    case = CASES[name]
    data = problem(case)
    assert case.name == name
    assert data.X.shape == (case.sizes[0], case.examples)
    assert data.Y.shape == (case.sizes[-1], case.examples)
    assert data.X.flags.f_contiguous
    assert {str(array.dtype) for array in (data.X, data.Y, data.W[1], data.b[1])} == {case.dtype}
    assert [W.shape for W in data.W[1:]] == list(zip(case.sizes[1:], case.sizes, strict=False))
    assert len(data.batches()) == case.steps
    assert cases.LOSSES[case.output] == case.loss
    assert np.isfinite(parity.loss(data, data.W, data.b))


def test_every_network_has_a_case_with_each_optimizer():
    assert len(CASES) == 14
    assert {case.sizes for case in CASES.values() if case.optimizer == "sgd"} == {
        case.sizes for case in CASES.values() if case.optimizer == "adam"
    }


def test_a_case_travels_to_a_process_without_numpy():
    code = """if True:
        import sys
        from accelnn.benchmark import messages
        print(messages.introduced(messages.receive(sys.stdin.buffer)), "numpy" in sys.modules)
    """
    message, sent = io.BytesIO(), (ENTRIES["torch"], CASES["2-4-1"], 1)
    messages.send(message, messages.introduction(*sent))
    result = subprocess.run([sys.executable, "-c", code], input=message.getvalue(), capture_output=True, check=True)
    assert result.stdout.decode().strip() == f"{sent} False"


def test_arrays_travel_bit_for_bit():
    stream, array = io.BytesIO(), np.array([[0.1, -0.0, np.nan], [np.inf, 5e-324, 1.0]], dtype="float64")
    messages.send(stream, [True, {"parameters": [[None, array.T], []], "seconds": np.float64(0.1), "inf": math.inf}])
    stream.seek(0)
    good, answer = messages.receive(stream)
    assert good is True
    assert answer["parameters"][0][0] is None
    assert answer["parameters"][0][1].tobytes() == array.T.tobytes()
    assert answer["parameters"][0][1].shape == (3, 2)
    assert (float(answer["seconds"]), answer["inf"]) == (0.1, math.inf)
    with pytest.raises(EOFError):
        messages.receive(stream)


def test_batches_cover_the_examples_in_order():
    data = problem(SMALL["softmax"])
    assert [(batch.start, batch.stop) for batch in data.batches()] == [(0, 16), (16, 32), (32, 40)]
    assert set(data.labels) == set(range(4))


# Contestants compute the same.


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", SMALL)
def test_contestants_reach_the_same_parameters(kind, optimizer):
    case = cases.variant(SMALL[kind], optimizer=optimizer, learning_rate=None if optimizer == "sgd" else 0.01)
    data = problem(case)
    expected = None
    for name in ("textbook", "accelnn numpy", "sklearn"):
        contestant = create(name, data)
        for _ in range(2):  # `reset` forgets the first run
            contestant.reset()
            contestant.train(3)
        W, b = contestant.parameters()
        flat = np.concatenate([np.ravel(part) for l in range(1, len(W)) for part in (W[l], b[l])])
        expected = flat if expected is None else expected
        np.testing.assert_allclose(
            flat, expected, rtol=1e-5 if name == "sklearn" else 1e-9, atol=1e-9 + 1e-5 * (name == "sklearn")
        )


@pytest.mark.parametrize("family", ["torch", "jax"])
@pytest.mark.parametrize("kind", SMALL)
def test_peers_that_may_be_missing_reach_the_same_loss(kind, family):
    for needed in ENTRIES[contestants(family)[0]].needs:
        pytest.importorskip(needed)
    for optimizer in ("sgd", "adam"):
        case = cases.variant(SMALL[kind], optimizer=optimizer, learning_rate=None if optimizer == "sgd" else 0.01)
        data = problem(case)
        reference = create("textbook", data)
        reference.train(3)
        for name in contestants(family):
            if name == "torch.compile":
                continue  # compiles for seconds; the comparison itself checks it
            contestant = create(name, data)
            contestant.reset()
            contestant.train(3)
            J, expected = (parity.loss(data, *one.parameters()) for one in (contestant, reference))
            np.testing.assert_allclose(J, expected, rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("kind", SMALL)
def test_the_judge_computes_what_accelnn_computes(kind):
    case, data = SMALL[kind], problem(SMALL[kind])
    net = Network(case.sizes, case.activation, case.output, case.loss, dtype="float64", backend="numpy")
    J, _ = net.loss_and_gradient(data.X, data.Y)
    assert parity.loss(data, net.W, net.b) == pytest.approx(J, rel=1e-12)


def test_weights_that_are_not_finite_have_such_a_loss():
    data = problem(SMALL["sigmoid"])
    W = [None, *(np.full_like(W, np.inf) for W in data.W[1:])]
    assert not np.isfinite(parity.loss(data, W, data.b))


@pytest.mark.parametrize(
    ("J", "words"),
    [
        (0.5, None),
        (0.5004, None),
        (0.502, "another loss: 0.502 after the same training, the textbook's is 0.5 (4.0e-03 apart, 1e-03 allowed)"),
        (0.999, "its loss has hardly moved, from 1 to 0.999"),
        (float("nan"), "its loss is nan"),
    ],
)
def test_why_a_contestant_is_refused(J, words):
    reason = parity.why_refused(J, 1.0, 0.5, 1e-3)
    assert reason is None if words is None else reason.startswith(words)


BROKEN = """
from accelnn.benchmark.contestants.textbook import Textbook

class Broken(Textbook):
    def update(self, gradients):
        super().update([(l, dW, 2 * db) for l, dW, db in gradients])

def create(problem, threads):
    return Broken(problem)
"""
FADING = """
import sys
from accelnn.benchmark.contestants.textbook import Textbook

class Fading(Textbook):
    runs = 0

    def train(self, epochs):
        super().train(epochs)
        self.runs += 1
        if self.runs > 3:
            sys.exit("killed")

def create(problem, threads):
    return Fading(problem)
"""
OTHERS = {
    "broken": BROKEN,
    "raising": "def create(problem, threads):\n    raise MemoryError('no room\\nfor this')",
    "dying": "import os\ndef create(problem, threads):\n    print('last words', flush=True)\n    os._exit(3)",
    "fading": FADING,
}


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """Contestants from outside, as entries."""
    for name, text in OTHERS.items():
        (tmp_path / f"stranger_{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return {name: Entry(name, "stranger", f"stranger_{name}", ("numpy",)) for name in OTHERS}


def test_a_comparison_times_those_alone_that_compute_the_same(strangers):
    entries = [ENTRIES["floor"], ENTRIES["textbook"], *strangers.values()]
    comparison = rounds.compare(SMALL["softmax"], entries, QUICK, ignore)
    found = {outcome.name: (outcome.status, outcome.reason) for outcome in comparison.outcomes}
    assert found.pop("floor") == found.pop("textbook") == ("timed", None)
    assert found["broken"][0] == "refused"
    assert found["broken"][1].startswith("another loss: ")
    assert found["raising"] == ("skipped", "MemoryError: no room")
    assert found["dying"] == ("skipped", "its process ended with code 3: last words")
    assert found["fading"] == ("failed", "its process ended with code 1: killed")
    assert [len(outcome.seconds_per_step) for outcome in comparison.timed()] == [2, 2]
    assert comparison.agreed_epochs == 7


def test_the_textbook_judges_even_where_it_is_not_shown(strangers):
    comparison = rounds.compare(SMALL["sigmoid"], [strangers["broken"]], QUICK, ignore)
    (outcome,) = comparison.outcomes
    assert (outcome.name, outcome.status) == ("broken", "refused")
    assert outcome.reason.startswith("another loss: ")


def test_a_learning_rate_that_moves_nothing_is_refused():
    case = replace(SMALL["sigmoid"], learning_rate=1e-9)
    comparison = rounds.compare(case, [ENTRIES["textbook"]], QUICK, ignore)
    assert "hardly moved" in comparison.outcome("textbook").reason


def test_rounds_are_interleaved_and_the_order_rotates():
    seen = []
    entries = [ENTRIES[name] for name in ("floor", "textbook")]
    rounds.compare(SMALL["sigmoid"], entries, QUICK, lambda what, done, total: seen.append((what, done, total)))
    assert [what.partition(": ")[2] for what, _, _ in seen if "round" in what] == [
        "round 1/2, floor",
        "round 1/2, textbook",
        "round 2/2, textbook",
        "round 2/2, floor",
    ]
    assert all(done <= total for _, done, total in seen)


def test_agreement_takes_20_steps_and_two_epochs():
    assert rounds.parity_epochs(CASES["2-4-1"]) == 20
    assert rounds.parity_epochs(CASES["20-64-64-1"]) == 2


# Processes.


def test_threads_are_set_before_a_contestant_imports(tmp_path, monkeypatch):
    (tmp_path / "stranger_counting.py").write_text(
        f"import os\ndef create(problem, threads):\n    raise OSError({{os.environ[n] for n in {THREADS!r}}}, threads)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = Process(Entry("counting", "stranger", "stranger_counting", ()), SMALL["sigmoid"], 3)
    try:
        with pytest.raises(WorkerFailure, match=r"OSError: .*\{'3'\}.* 3"):
            process("prepare", 1)
    finally:
        process.close()


def test_memory_is_measured_where_it_is_used():
    code = """
from accelnn.benchmark import memory
held = bytearray(b"x") * 2**27
del held
memory.reset_peak()
before = memory.resident()
held = bytearray(b"x") * 2**26
print(memory.peak() - before)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown = int(result.stdout)
    if sys.platform == "linux":
        assert 0.9 * 2**26 < grown < 1.2 * 2**26
    assert memory.resident() <= memory.peak() or sys.platform == "win32"


# Figures.


def test_summary_is_numpys():
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6]
    found = figures.summary(values)
    np.testing.assert_allclose(
        (found.lower_quartile, found.median, found.upper_quartile), np.percentile(values, [25, 50, 75])
    )
    assert found.minimum == 1.0
    assert figures.summary([2.0]) == figures.Summary(2.0, 2.0, 2.0, 2.0)


def test_ratios_are_taken_round_by_round():
    """A slow round slows both; the ratio of the medians would be 1."""
    assert figures.paired_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 4.0]) == 2.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (2.5, "2.5 s"), (0.01234, "12.3 ms"), (1e-3, "1 ms"), (9.99e-7, "0.999 µs"), (45e-6, "45 µs")],
)
def test_seconds_as_text(seconds, text):
    assert report.seconds_text(seconds) == text


# Reports.


@pytest.fixture
def made_up():
    """A report without a run: one is faster than accelnn, one is refused, one is skipped."""

    def timed(name, family, values, loss=0.5):
        return rounds.Outcome(name, family, "timed", None, loss, 0.1, 0.2, 2**20, 7, values)

    outcomes = [
        timed("floor", "reference", [1e-5, 1e-5, 2e-5], None),
        timed("accelnn numpy", "accelnn", [4e-5, 4e-5, 8e-5]),
        timed("accelnn numba", "accelnn", [2e-5, 2e-5, 4e-5]),
        timed("jax scan", "jax", [1.5e-5, 1.5e-5, 3e-5]),
        rounds.Outcome("torch", "torch", "refused", "another loss", 0.7),
        rounds.Outcome("sklearn", "sklearn", "skipped", "not | installed; run: pip install scikit-learn"),
    ]
    comparison = rounds.Comparison(CASES["2-4-1"], 0.69, 20, outcomes)
    return report.Report(machine.machine(), rounds.Settings(2, 3), [comparison])


def test_json_holds_every_round_and_every_contestant(made_up):
    found = json.loads(made_up.as_json())
    (comparison,) = found["comparisons"]
    by_name = {entry["name"]: entry for entry in comparison["contestants"]}
    assert list(by_name) == ["floor", "accelnn numpy", "accelnn numba", "jax scan", "torch", "sklearn"]
    assert by_name["jax scan"]["seconds_per_step"] == [1.5e-5, 1.5e-5, 3e-5]
    assert by_name["jax scan"]["to_accelnn"] == pytest.approx(0.75)
    assert by_name["jax scan"]["to_floor"] == pytest.approx(1.5)
    assert by_name["accelnn numba"]["summary"]["median"] == 2e-5
    assert by_name["torch"]["reason"] == "another loss"
    assert comparison["case"]["sizes"] == [2, 4, 1]
    assert {"cpu", "cores", "date", "versions"} <= set(found["machine"])
    assert {"python", "numpy", "numba", "accelnn"} <= set(found["machine"]["versions"])
    assert found["settings"]["threads"] == 2
    assert "NPROC" in found["settings"]["threads_by"]


def test_markdown_and_terminal_show_losers_and_the_absent(made_up):
    console = Console(width=80, record=True, file=io.StringIO())
    report.print_report(made_up, console)
    shown = console.export_text()
    for text in (made_up.as_markdown(), shown):
        places = [text.index(name) for name in ("accelnn numpy", "jax scan", "accelnn numba")]
        assert places[1] < places[2] < places[0]
        assert "torch: refused: another loss" in text
        assert "sklearn: skipped: not | installed; run: pip install scikit-learn" in text
        assert "…" not in text
    assert (
        "| jax scan | 15 µs | 15 µs to 22.5 µs | 15 µs | 0.75 | 1.50 | 0.5 | 100 ms | 200 ms | 1.0 MiB |"
        in made_up.as_markdown()
    )


def test_the_picture_is_drawn(made_up, tmp_path):
    nothing = rounds.Comparison(CASES["64-100-10"], 2.3, 2, [rounds.Outcome("torch", "torch", "skipped", "no")])
    picture.draw(replace(made_up, comparisons=[*made_up.comparisons, nothing]), tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_the_heading_counts(made_up):
    assert ", 2 threads each; 3 rounds of about 0.3 s, interleaved" in made_up.heading()
    one = replace(made_up, settings=rounds.Settings(1, 1, busy=True))
    assert one.heading().endswith(
        ", 1 thread each; 1 round of about 0.3 s, interleaved, one core held by another process"
    )


def test_the_machine_is_described_without_names():
    found = machine.machine()
    assert found["cpu"]
    assert found["usable_cores"] >= 1
    assert "node" not in found


# Who is missing.


def test_a_peer_that_is_not_installed_is_named_with_its_command(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("torch", "jax", "optax") else real(name, *rest),
    )
    assert why_missing(ENTRIES["torch"]) == "torch not installed; run: pip install torch"
    assert why_missing(ENTRIES["jax scan"]) == "jax and optax not installed; run: pip install jax optax"
    assert why_missing(ENTRIES["sklearn"]) is None
    comparison = rounds.compare(SMALL["sigmoid"], [ENTRIES["torch"]], QUICK, ignore)
    assert comparison.outcome("torch").status == "skipped"
    assert "pip install torch" in comparison.outcome("torch").reason


def test_a_backend_that_cannot_run_here_is_named():
    reason = why_missing(ENTRIES["accelnn cupy"])
    assert reason is None or "run: pip install" in reason


def test_sklearn_without_a_softmax_of_two():
    case = replace(SMALL["softmax"], sizes=(3, 4, 2))
    with pytest.raises(DataError, match="single sigmoid output"):
        create("sklearn", problem(case))


# The command.


def bench(*arguments):
    result = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes", "3,x"), "--sizes: '3,x' is no list of at least two positive widths"),
        (("--sizes", "3"), "--sizes: '3' is no list"),
        (("--sizes", "3,0,1"), "--sizes: '3,0,1' is no list"),
        (("--sizes", "3,2", "--case", "2-4-1"), "--sizes: goes with no --case"),
        (("--case", "2-5-1"), "--case: '2-5-1' is not known; choose from 2-4-1, 2-4-1-adam"),
        (("--backends", "numpy,torch"), "--backends: 'torch' is not known; choose from all, cupy, none, numba, numpy"),
        (("--peers", "tensorflow"), "--peers: 'tensorflow' is not known; choose from all, jax, none, sklearn, torch"),
        (("--peers", "none,jax"), "--peers: none goes with no other name"),
        (("--activation", "gelu"), "--activation: 'gelu' is not known; choose from identity, relu, sigmoid, tanh"),
        (("--output-activation", "exp"), "--output-activation: 'exp' is not known"),
        (("--sizes", "3,1", "--output-activation", "softmax"), "--output-activation: softmax over one output"),
        (("--optimizer", "lion"), "--optimizer: 'lion' is not known; choose from adam, sgd"),
        (("--dtype", "float16"), "--dtype: 'float16' is not known; choose from float32, float64"),
        (("--learning-rate", "0"), "--learning-rate: 0.0 is out of range"),
        (("--batch-size", "-1"), "--batch-size: -1 is not a whole number"),
        (("--examples", "0"), "--examples: 0 is not a whole number"),
        (("--examples", "5"), "--examples: 5 are too few for 10 classes"),
        (("--threads", "0"), "--threads: 0 is not a whole number"),
        (("--rounds", "0"), "--rounds: 0 is not a whole number"),
        (("--seconds", "-1"), "--seconds: -1.0 is out of range"),
        (("--out", "/no/such/folder"), "--out: there is no folder /no/such"),
        (("--out", __file__), f"--out: {__file__} is no folder"),
    ],
)
def test_options_that_cannot_be_used(arguments, message, monkeypatch):
    monkeypatch.setattr(command, "compare", None)  # nothing may be timed
    code, out, err = bench(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"accelnn: {message}")
    assert err.count("\n") == 1


def test_sensible_settings_for_a_users_own_network():
    def chosen(**options):
        (case,) = command.chosen_cases(command.Options(**options))
        return case

    case = chosen(sizes="784,256,128,10")
    assert (case.output, case.loss, case.optimizer, case.batch_size) == ("softmax", "cross_entropy", "sgd", 128)
    assert chosen(sizes="5,1").loss == "binary_cross_entropy"
    assert chosen(sizes="5,1", output_activation="identity").loss == "squared_error"
    assert chosen(sizes="5,1", batch_size=0, examples=50).batch_size == 50
    assert chosen(sizes="5,1", batch_size=99, examples=50).batch_size == 50
    assert chosen(sizes="5,1", optimizer="adam").learning_rate == 1e-3
    assert chosen(case=("2-4-1",), optimizer="adam").learning_rate == 1e-3
    assert chosen(case=("2-4-1",), dtype="float64").dtype == "float64"
    assert chosen().name == command.DEFAULT_CASE
    assert len(command.chosen_cases(command.Options(case=("all", "2-4-1")))) == len(CASES)


def test_the_floor_and_the_textbook_always_take_part():
    def names(*options):
        return [entry.name for entry in command.chosen_entries(*options)]

    assert names("none", "none") == ["floor", "textbook"]
    assert names("numpy, numba", "jax") == [
        "floor",
        "accelnn numpy",
        "accelnn numba",
        "textbook",
        "jax jit",
        "jax scan",
    ]
    assert names("all", "all") == list(ENTRIES)


def test_bench_from_end_to_end(tmp_path):
    options = ("--sizes", "3,4,1", "--batch-size", "8", "--examples", "40", "--seconds", "0.01", "--rounds", "2")
    out = tmp_path / "results"
    code, shown, err = bench(
        *options, "--backends", "numpy", "--peers", "sklearn", "--threads", "1", "--busy", "--out", out
    )
    assert (code, err) == (0, "")
    for name in ("floor", "accelnn numpy", "textbook", "sklearn"):
        assert name in shown
    (comparison,) = json.loads((out / "bench.json").read_text())["comparisons"]
    assert {entry["status"] for entry in comparison["contestants"]} == {"timed"}
    assert all(len(entry["seconds_per_step"]) == 2 for entry in comparison["contestants"])
    assert (out / "bench.md").read_text().startswith("# accelnn bench\n")
    assert (out / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "one core held by another process" in shown


def test_without_matplotlib_the_figures_are_kept(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    lines = command._written(made_up, tmp_path)
    assert lines[-1].endswith('run: pip install "accelnn[plot]"')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]
