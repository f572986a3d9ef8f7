"""The command line: ``accelnn train``, ``predict``, ``bench`` and ``doctor``."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import accelnn
from accelnn import checks
from accelnn.callbacks import Progress
from accelnn.errors import AccelnnError, DataError, require_known
from accelnn.progress import figures, shown
from accelnn.schedules import SCHEDULES

if TYPE_CHECKING:
    from accelnn.backends.base import Backend

__all__ = ["app", "main"]

app = typer.Typer(
    help="Multilayer perceptrons on NumPy, Numba or a GPU. For example, accelnn train digits.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point. Exit codes: 0; 2 for bad input, with one line on standard error; 1 for the rest; 130 on Ctrl-C."""
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = 130
    except Exception as problem:
        # typer's own errors know how to say what is wrong with an option; it would print three lines.
        if not hasattr(problem, "format_message"):
            raise
        message = problem.format_message()
        typer.echo(message if "\n" in message else f"accelnn: {message}", err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except AccelnnError as problem:
        typer.echo(f"accelnn: {' '.join(str(problem).split())}", err=True)
        raise typer.Exit(2) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"accelnn {accelnn.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Multilayer perceptrons on NumPy, Numba or a GPU. For example, accelnn train digits."""


def _figures(progress: Progress) -> str:
    return f"{figures(progress)}  {progress.examples / progress.seconds:,.0f} examples/s"


def _say(console: Console, text: str) -> None:
    """Print as it is: no markup in the user's names, no wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command()
def train(
    data: Annotated[
        str,
        typer.Argument(
            help="planar, digits, breast_cancer, iris, wine, diabetes, or a .csv, .tsv, .parquet or .npz file."
        ),
    ],
    target: Annotated[str | None, typer.Option(help="The column to predict, for a table.")] = None,
    task: Annotated[
        str | None, typer.Option(help="classification or regression, where the target leaves it open.")
    ] = None,
    backend: Annotated[str, typer.Option(help="auto, numpy, numba or cupy.")] = "auto",
    hidden: Annotated[str | None, typer.Option(help="Widths of the hidden layers, such as 64,32.")] = None,
    activation: Annotated[str | None, typer.Option(help="Of the hidden layers, such as relu or tanh.")] = None,
    loss: Annotated[str | None, typer.Option(help="By default the one that suits the task.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd, momentum, nesterov, rmsprop, adam or adamw.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training part.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step; 0 for all of them.")] = None,
    schedule: Annotated[str | None, typer.Option(help="step, exponential, cosine, one_cycle or plateau.")] = None,
    l2: Annotated[float | None, typer.Option(help="Weight of the L2 penalty.")] = None,
    dropout: Annotated[float, typer.Option(help="Share of hidden units left out of a step.")] = 0.0,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of weights, batches and the split.")] = 0,
    threads: Annotated[int | None, typer.Option(help="Most threads; by default all processors.")] = None,
    device: Annotated[int | None, typer.Option(help="Which GPU, counted from 0.")] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Share of the rows that is held out, 0 for none.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to save the model.")] = None,
) -> None:
    """Train on a table. For example, accelnn train digits --backend numba --hidden 64,32 --out model.safetensors."""
    with _one_line_errors():
        from accelnn.data import load_table, split
        from accelnn.tablemodel import TableModel, layer_widths

        console = Console()
        chosen = accelnn.get_backend(backend, threads, device)
        _say(console, f"backend   {chosen.name}, {_why(backend)}; {chosen.describe()}")
        _announce_compilation(console, chosen)
        dataset = load_table(data, target, task)
        given: dict[str, Any] = {
            "hidden": None if hidden is None else layer_widths(hidden),
            "activation": activation,
            "optimizer": optimizer,
            "learning_rate": learning_rate,
            "epochs": epochs,
            "l2": l2,
            "test_fraction": test_fraction,
        }
        recipe = replace(dataset.recipe, **{name: value for name, value in given.items() if value is not None})
        if batch_size is not None:
            recipe = replace(recipe, batch_size=batch_size or None)
        if not 0.0 <= recipe.test_fraction < 1.0:
            raise DataError(f"--test-fraction: {recipe.test_fraction} is out of range; give a share from 0 to below 1")
        checks.integer("--seed", seed, 0)
        checks.dropout_rates("--dropout", dropout, len(recipe.hidden))
        if schedule is not None:
            require_known("--schedule", schedule, SCHEDULES)
        _writable(out, data)

        training, held_out = split(dataset, recipe.test_fraction, seed)
        model = TableModel.untrained(
            dataset, training, recipe.hidden, recipe.activation, loss=loss, seed=seed, dtype=dtype, backend=chosen
        )
        net = model.network
        parts = f"{len(training):,} to train on, {len(held_out):,} held out"
        kinds = f"{len(dataset.classes)} classes" if dataset.classes else "a number to predict"
        batches = "full batches" if recipe.batch_size is None else f"batches of {recipe.batch_size}"
        shape = "-".join(map(str, net.sizes))
        functions = f"{recipe.activation}, {net.output}, {net.loss}"
        _say(
            console,
            f"data      {dataset.name}: {len(dataset.y):,} examples ({parts}), {dataset.X.shape[1]} features, {kinds}",
        )
        _say(console, f"network   {shape}, {functions}; {net.layout.n_parameters:,} parameters, {net.dtype}")
        steps = f"learning rate {recipe.learning_rate:g}, {recipe.epochs} epochs of {batches}"
        steps += f", schedule {schedule}" if schedule else ""
        steps += f", dropout {dropout:g}" if dropout else ""
        _say(console, f"training  {recipe.optimizer}, {steps}")

        X, Y = model.encoded(dataset.X[training], dataset.y[training])
        start = time.perf_counter()
        with shown(console, text=_figures, transient=True) as progress:
            history = net.fit(
                X,
                Y,
                optimizer=recipe.optimizer,
                learning_rate=recipe.learning_rate,
                epochs=recipe.epochs,
                batch_size=recipe.batch_size,
                l2=recipe.l2,
                dropout=dropout,
                schedule=schedule,
                callbacks=[progress],
            )
        seconds = time.perf_counter() - start
        rows, name = (held_out, "test") if len(held_out) else (training, "training")
        score = model.score(dataset.X[rows], dataset.y[rows])
        result = f"R2 {score:.3f}" if dataset.task == "regression" else f"accuracy {100 * score:.2f} %"
        _say(console, f"loss      {history.loss[-1]:.12g}")
        _say(console, f"result    {name} {result} on {len(rows):,} examples")
        _say(console, f"speed     {history.examples / seconds:,.0f} examples a second, {seconds:.2f} s in all")
        if out is not None:
            model.save(out)
            _say(console, f"model     {out}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A file that accelnn train --out wrote.")],
    data: Annotated[str, typer.Argument(help="A table with the columns of the training, in any order.")],
    backend: Annotated[str, typer.Option(help="auto, numpy, numba or cupy.")] = "auto",
    device: Annotated[int | None, typer.Option(help="Which GPU, counted from 0.")] = None,
    out: Annotated[Path | None, typer.Option(help="A CSV file; by default, standard output.")] = None,
) -> None:
    """Predict the rows of a table. For example, accelnn predict model.safetensors table.csv --out predictions.csv."""
    with _one_line_errors():
        from accelnn.data import load_features
        from accelnn.tablemodel import TableModel

        trained = TableModel.load(model, accelnn.get_backend(backend, device=device))
        _writable(out, data, str(model))
        X = load_features(data, trained.features)
        if out is None:
            trained.write_predictions(X, sys.stdout)
            return
        try:
            with out.open("w", newline="") as file:
                trained.write_predictions(X, file)
        except OSError as problem:
            raise DataError(f"{out}: cannot be written ({problem.strerror})") from None
        typer.echo(f"{len(X):,} predictions written to {out}", err=True)


@app.command()
def bench(
    sizes: Annotated[
        str | None, typer.Option(help="Widths of inputs, hidden layers and outputs, such as 784,256,128,10.")
    ] = None,
    case: Annotated[
        list[str] | None, typer.Option(help="A standard case, such as 64-100-10-adam, or all; may be repeated.")
    ] = None,
    backends: Annotated[str, typer.Option(help="all, none, or some of numpy,numba,cupy.")] = "all",
    peers: Annotated[str, typer.Option(help="all, none, or some of torch,jax,sklearn.")] = "all",
    batch_size: Annotated[int | None, typer.Option(help="Examples a step; 0 for all of them.")] = None,
    examples: Annotated[int | None, typer.Option(help="Examples an epoch.")] = None,
    activation: Annotated[
        str | None, typer.Option(help="Of the hidden layers: relu, tanh, sigmoid or identity.")
    ] = None,
    output_activation: Annotated[
        str | None,
        typer.Option(help="softmax, sigmoid or identity (squared error); by default what suits the outputs."),
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="sgd or adam.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of every contestant; by default one a core.")] = None,
    device: Annotated[int | None, typer.Option(help="Which GPU, counted from 0.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each contestant is timed, in turn.")] = 9,
    seconds: Annotated[float, typer.Option(help="Length of a contestant's round.")] = 0.3,
    busy: Annotated[bool, typer.Option("--busy", help="Let another process hold one core meanwhile.")] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for bench.json, bench.md and bench.png.")] = None,
) -> None:
    """Time training beside other libraries. For example, accelnn bench --sizes 64,100,10 --peers torch,sklearn."""
    with _one_line_errors():
        from accelnn.benchmark.command import Options, run

        _show_one_gpu(device)
        options = Options(
            sizes=sizes,
            case=tuple(case or ()),
            backends=backends,
            peers=peers,
            batch_size=batch_size,
            examples=examples,
            activation=activation,
            output_activation=output_activation,
            optimizer=optimizer,
            learning_rate=learning_rate,
            dtype=dtype,
            threads=threads,
            rounds=rounds,
            seconds=seconds,
            busy=busy,
            out=out,
        )
        run(options, Console())


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Say what is installed and test every backend. For example, accelnn doctor --json > doctor.json."""
    with _one_line_errors():
        from accelnn.doctor import examine, printer

        found = examine() if as_json else examine(printer(Console()))
        if as_json:
            typer.echo(json.dumps(found, indent=1, allow_nan=False))
        if not found["passed"]:
            raise typer.Exit(1)


def _announce_compilation(console: Console, backend: "Backend") -> None:
    if backend.name == "numba":
        from accelnn.kernels import jit

        text = "compiling the kernels for this processor and precision; they are kept for the next run"
        jit.listeners.append(lambda: _say(console, f"numba     {text}"))


def _show_one_gpu(device: int | None) -> None:
    """Let this process and those that it starts see this GPU alone, before CUDA counts them."""
    if device is None:
        return
    number = checks.integer("--device", device, 0)
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        names = [name.strip() for name in listed.split(",") if name.strip()]
        if number >= len(names):
            raise DataError(f"--device: {number} is not among the GPUs of CUDA_VISIBLE_DEVICES={listed!r}")
        os.environ["CUDA_VISIBLE_DEVICES"] = names[number]
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(number)


def _writable(out: Path | None, *inputs: str) -> None:
    """Refuse, before any work is done, an output that could not be written or would replace an input."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise DataError(f"--out: there is no folder {out.parent}")
    if out.is_dir() or not os.access(out if out.exists() else out.parent, os.W_OK):
        raise DataError(f"--out: {out} cannot be written")
    for name in inputs:
        if out.exists() and Path(name).exists() and out.samefile(name):
            raise DataError(f"--out: {out} is also read; give another name")


def _why(backend: str) -> str:
    from accelnn.backends import why_auto

    return f"chosen by auto because {why_auto()}" if backend == "auto" else "as asked for"
