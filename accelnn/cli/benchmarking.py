"""``accelnn bench``."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from accelnn import checks
from accelnn.cli.console import one_line_errors
from accelnn.errors import DataError

__all__ = ["bench"]


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
    with one_line_errors():
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
