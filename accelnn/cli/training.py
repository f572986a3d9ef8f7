"""``accelnn train``."""

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console

import accelnn
from accelnn import checks
from accelnn.callbacks import Callback, Progress
from accelnn.checkpoints import Checkpoint, files_of, interval
from accelnn.cli.console import named_path, one_line_errors, require_apart, require_writable, say
from accelnn.earlystopping import EarlyStopping
from accelnn.errors import DataError, require_known
from accelnn.logs import log_to
from accelnn.progress import figures, shown
from accelnn.schedules import SCHEDULES
from accelnn.streaming import Stream

if TYPE_CHECKING:
    from accelnn.backends.base import Backend
    from accelnn.datasets import Dataset, Recipe
    from accelnn.tables.model import TableModel

__all__ = ["train"]

VALIDATION = 0.1  # share of the training part that early stopping looks at
BLOCK = 1024  # consecutive rows that are held out together, of a table that is read part by part
_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def train(
    data: Annotated[
        str,
        typer.Argument(help="planar, digits, breast_cancer, iris, wine, diabetes, or a table in a file."),
    ],
    target: Annotated[
        str | None, typer.Option(help="The column to predict; for .npy, the file of the targets.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="classification or regression, where the target leaves it open.")
    ] = None,
    categorical: Annotated[
        list[str] | None, typer.Option(help="A column whose numbers are categories; may be repeated.")
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="A column to leave out; may be repeated.")] = None,
    missing: Annotated[
        str, typer.Option(help="refuse missing values, or impute the training median and say where.")
    ] = "refuse",
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
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better validation loss; keep the best.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of weights, batches and the split.")] = 0,
    threads: Annotated[int | None, typer.Option(help="Most threads; by default all processors.")] = None,
    device: Annotated[int | None, typer.Option(help="Which GPU, counted from 0.")] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Share of the rows that is held out, 0 for none.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Read .npy or .parquet part by part, such as 500M at once.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(parser=named_path("--checkpoint"), metavar="PATH", help="A folder for checkpoints.")
    ] = None,
    checkpoint_every: Annotated[str, typer.Option(help="A time such as 30s or 5m, or a number of steps.")] = "30s",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the latest checkpoint, if there is one.")
    ] = False,
    log: Annotated[
        list[str] | None, typer.Option(help="A .jsonl or .csv file, or a folder/ for TensorBoard; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(parser=named_path("--out"), metavar="PATH", help="Where to save the model.")
    ] = None,
) -> None:
    """Train on a table. For example, accelnn train digits --backend numba --hidden 64,32 --out model.safetensors."""
    with one_line_errors():
        from accelnn.readers.reading import load_table
        from accelnn.tables.model import TableModel

        console = Console()
        chosen = accelnn.get_backend(backend, threads, device)
        say(console, f"backend   {chosen.name}, {_why(backend)}; {chosen.describe()}")
        _announce_compilation(console, chosen)
        window = None if memory is None else _bytes("--memory", memory)
        columns = {"categorical": tuple(categorical or ()), "ignore": tuple(ignore or ())}
        dataset = load_table(data, target, task, **columns, lazy=window is not None)
        recipe = _recipe(
            dataset,
            batch_size,
            hidden=None if hidden is None else layer_widths(hidden),
            activation=activation,
            optimizer=optimizer,
            learning_rate=learning_rate,
            epochs=epochs,
            l2=l2,
            test_fraction=test_fraction,
        )
        checks.integer("--seed", seed, 0)
        checks.dropout_rates("--dropout", dropout, len(recipe.hidden))
        if schedule is not None:
            require_known("--schedule", schedule, SCHEDULES)
        require_known("--missing", missing, ("refuse", "impute"))
        if resume and checkpoint is None:
            raise DataError("--resume: say with --checkpoint in which folder the checkpoints are")
        interval("--checkpoint-every", checkpoint_every)
        require_writable(out, data)
        _require_apart(data, target, log or [], checkpoint, out)

        training, held_out = _split(dataset, recipe.test_fraction, seed, window is not None)
        validation = training[:0]
        if patience is not None:
            kept, chosen_rows = _split(_rows_of(dataset, training), VALIDATION, seed + 1, window is not None)
            training, validation = training[kept], training[chosen_rows]
        names = {"loss": loss, "seed": seed, "dtype": dtype, "backend": chosen}
        model = TableModel.untrained(dataset, training, recipe.hidden, recipe.activation, missing=missing, **names)
        # What is wrong with the other rows should not come out after the training.
        for rows in (validation, held_out):
            model.check(dataset.X, rows, source=dataset.name, place=dataset.place)
        net = model.network
        _say_what(console, dataset, model, recipe, training, validation, held_out)
        steps = f", schedule {schedule}" if schedule else ""
        steps += f", dropout {dropout:g}" if dropout else ""
        batches = "full batches" if recipe.batch_size is None else f"batches of {recipe.batch_size}"
        say(
            console,
            f"training  {recipe.optimizer}, learning rate {recipe.learning_rate:g}, {recipe.epochs} epochs of "
            f"{batches}{steps}",
        )

        speed = _Speed()
        watchers: list[Callback] = [speed, *map(log_to, log or ())]
        watchers += [EarlyStopping(patience)] if patience is not None else []
        if checkpoint is not None:
            watchers.append(Checkpoint(checkpoint, checkpoint_every, description=model.description()))
            if resume:
                latest = Checkpoint.latest(checkpoint)
                say(console, f"resume    {latest or f'nothing in {checkpoint} yet; from the beginning'}")
        if window is None:
            X, Y = _encoded(model, dataset, training)
        else:
            X, Y = _stream(model, dataset, training, window), None
        start = time.perf_counter()
        try:
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
                    validation=_encoded(model, dataset, validation) if len(validation) else None,
                    callbacks=[progress, *watchers],
                    resume=str(checkpoint) if resume else False,
                )
        except (KeyboardInterrupt, SystemExit):
            if checkpoint is not None:
                say(console, f"stopped   {Checkpoint.latest(checkpoint)}; the same command with --resume goes on")
            raise
        seconds = time.perf_counter() - start
        rows, name = (held_out, "test") if len(held_out) else (training, "training")
        score = model.score(dataset.X, dataset.y, rows, source=dataset.name, place=dataset.place)
        result = f"R2 {score:.3f}" if dataset.task == "regression" else f"accuracy {100 * score:.2f} %"
        say(console, f"loss      {history.loss[-1]:.12g}")
        if patience is not None:
            best = int(np.argmin(history.validation_loss))
            loss_there = history.validation_loss[best]
            say(console, f"best      epoch {best + 1} of {len(history.loss)}, validation loss {loss_there:.6g}")
        say(console, f"result    {name} {result} on {len(rows):,} examples")
        ran = f"{speed.latest:,.0f} examples a second" if speed.latest else "the training had ended before"
        say(console, f"speed     {ran}, {seconds:.2f} s in all")
        if out is not None:
            model.save(out)
            say(console, f"model     {out}")


def _require_apart(data: str, target: str | None, logs: list[str], checkpoint: Path | None, out: Path | None) -> None:
    """No output takes the place of another, or of what is read."""
    inputs = [data, target] if target is not None and Path(data).suffix.lower() == ".npy" else [data]
    outputs = [("--log", path) for path in logs]
    outputs += [] if checkpoint is None else [("--checkpoint", str(checkpoint))]
    outputs += [] if out is None else [("--out", str(out))]
    require_apart(outputs, inputs)
    if out is not None and checkpoint is not None:
        kept = {path.resolve() for path in files_of(checkpoint)}
        if out.resolve() in kept:
            raise DataError(f"--out: {out} is a checkpoint; give another name")


class _Speed(Callback):
    """Examples a second of this run alone, whatever came before it."""

    latest = 0.0

    def on_fit_end(self, progress: Progress) -> None:
        self.latest = progress.examples / progress.seconds


def _recipe(dataset: "Dataset", batch_size: int | None, **given: Any) -> "Recipe":
    """The data set's own, but for what was given."""
    recipe = replace(dataset.recipe, **{name: value for name, value in given.items() if value is not None})
    if batch_size is not None:
        recipe = replace(recipe, batch_size=batch_size or None)
    if not 0.0 <= recipe.test_fraction < 1.0:
        raise DataError(f"--test-fraction: {recipe.test_fraction} is out of range; give a share from 0 to below 1")
    return recipe


def _rows_of(dataset: "Dataset", rows: np.ndarray) -> "Dataset":
    """For a second split, which looks at the targets alone."""
    return replace(dataset, y=dataset.y[rows])


def _split(dataset: "Dataset", fraction: float, seed: int, by_blocks: bool) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train on and to hold out; in blocks of consecutive rows where they are to be read from a disk."""
    from accelnn.readers.splitting import split

    if not by_blocks:
        return split(dataset, fraction, seed)
    m = len(dataset.y)
    block = max(1, min(BLOCK, int(m * min(fraction, 1.0 - fraction)) // 20))
    held = np.random.default_rng([seed, 5]).permutation(-(-m // block))[: round(fraction * -(-m // block))]
    chosen = np.isin(np.arange(m) // block, held)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _encoded(model: "TableModel", dataset: "Dataset", rows: np.ndarray) -> tuple[Any, np.ndarray]:
    return model.encoded(dataset.X, dataset.y, rows, source=dataset.name, place=dataset.place)


def _stream(model: "TableModel", dataset: "Dataset", rows: np.ndarray, memory: int) -> Stream:
    """The rows encoded as they are read."""

    def read(start: int, stop: int) -> tuple[Any, np.ndarray]:
        return _encoded(model, dataset, rows[start:stop])

    # A part of a Parquet file is read with the row groups that it lies in, so parts are long.
    row = (model.schema.width + 1) * np.dtype(model.network.dtype).itemsize
    piece = None if isinstance(dataset.X, np.ndarray) else max(1, memory // (4 * row))
    return Stream.from_reader(read, len(rows), memory=memory, piece=piece)


def _say_what(
    console: Console,
    dataset: "Dataset",
    model: "TableModel",
    recipe: "Recipe",
    training: np.ndarray,
    validation: np.ndarray,
    held_out: np.ndarray,
) -> None:
    """What is trained on, and what is trained."""
    net = model.network
    parts = f"{len(training):,} to train on, {len(held_out):,} held out"
    parts += f", {len(validation):,} for validation" if len(validation) else ""
    kinds = f"{len(dataset.classes)} classes" if dataset.classes else "a number to predict"
    shape, functions = "-".join(map(str, net.sizes)), f"{recipe.activation}, {net.output}, {net.loss}"
    features = f"{len(dataset.features):,} features"
    say(console, f"data      {dataset.name}: {len(dataset.y):,} examples ({parts}), {features}, {kinds}")
    if text := _columns(model):
        say(console, f"columns   {text}")
    say(console, f"network   {shape}, {functions}; {net.layout.n_parameters:,} parameters, {net.dtype}")


def _columns(model: "TableModel") -> str:
    """What the table has besides numbers that are all there."""
    from accelnn.tables.schema import Categorical

    columns = model.schema.columns
    texts = [column for column in columns if isinstance(column, Categorical)]
    gaps = [column.name for column in columns if column.indicator]
    found = []
    if texts:
        found.append(f"{len(texts):,} of categories ({sum(len(c.categories) for c in texts):,} in all)")
    if gaps:
        found.append(f"{len(gaps):,} with missing values, which are filled in and marked")
    return ", ".join(found)


def _bytes(option: str, text: str) -> int:
    """``"500M"`` as a number of bytes."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?\s*", text, re.IGNORECASE)
    if not found or float(found[1]) <= 0:
        raise DataError(f"{option}: {text!r} is no size; give one such as 500M or 2G")
    return int(float(found[1]) * _SIZES[found[2].upper()])


def layer_widths(text: str) -> tuple[int, ...]:
    """``"64,32"`` as (64, 32); an empty text is no hidden layer."""
    try:
        return tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise DataError(f"--hidden: {text!r} is no list of widths; give numbers such as 64,32") from None


def _figures(progress: Progress) -> str:
    return f"{figures(progress)}  {progress.examples / progress.seconds:,.0f} examples/s"


def _announce_compilation(console: Console, backend: "Backend") -> None:
    if backend.name == "numba":
        from accelnn.kernels import jit

        text = "compiling the kernels for this processor and precision; they are kept for the next run"
        jit.listeners.append(lambda: say(console, f"numba     {text}"))


def _why(backend: str) -> str:
    from accelnn.backends import why_auto

    return f"chosen by auto because {why_auto()}" if backend == "auto" else "as asked for"
