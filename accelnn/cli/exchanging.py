"""``accelnn inspect``, ``accelnn export`` and ``accelnn import``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from accelnn.cli.console import one_line_errors, require_writable, say
from accelnn.errors import DataError, require_known

__all__ = ["export", "import_model", "inspect"]

TARGETS = ("onnx", "torch", "sklearn")
SOURCES = ("torch", "sklearn")


def inspect(
    model: Annotated[Path, typer.Argument(help="A model, an estimator's file, or a checkpoint.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Say what a file holds. For example, accelnn inspect model.safetensors."""
    with one_line_errors():
        from accelnn.exchange.card import card

        found = card(model)
        if as_json:
            typer.echo(json.dumps(found, indent=1, allow_nan=False))
        else:
            _show(found)


def export(
    model: Annotated[
        Path,
        typer.Argument(help="What accelnn train --out, or a model's or an estimator's save, wrote; or a checkpoint."),
    ],
    to: Annotated[str, typer.Option("--to", help="onnx, torch or sklearn.")],
    out: Annotated[Path, typer.Option(help="The file to write: .onnx, .safetensors or .skops.")],
) -> None:
    """Write a model for another program. For example, accelnn export model.safetensors --to onnx --out model.onnx."""
    with one_line_errors():
        require_known("--to", to, TARGETS)
        require_writable(out, str(model))
        from accelnn import exchange

        loaded = _loaded(model)
        if to == "onnx":
            program, note = exchange.save_onnx(loaded, out)
        elif to == "torch":
            program, note = exchange.save_torch(loaded, out)
        else:
            program, note = exchange.save_skops(loaded, out)
        typer.echo(program, nl=False)
        typer.echo(f"written to {out}; {note}", err=True)


def _loaded(path: Path) -> Any:
    """The model of a file: an estimator, a network with its table, or a network alone."""
    from accelnn.exchange.source import model_of
    from accelnn.storage import container

    about, tensors = container.read(path)
    if about["kind"] == "estimator":
        from accelnn import estimators
        from accelnn.storage.fields import field, readable

        with readable(path):
            name = field(field(about, "estimator", dict), "class", str)
            require_known("class", name, estimators.__all__)
        return getattr(estimators, name).load(path, "numpy")
    return model_of(path, about, tensors)


def import_model(
    file: Annotated[Path, typer.Argument(help="A safetensors file with a state_dict of PyTorch's, or a skops file.")],
    source: Annotated[str, typer.Option("--from", help="torch or sklearn.")],
    out: Annotated[Path, typer.Option(help="Where to save the model.")],
    activation: Annotated[
        str | None, typer.Option(help="Of the hidden layers, such as relu, or tanh,relu for one each (torch).")
    ] = None,
    output: Annotated[str | None, typer.Option(help="identity, sigmoid, softmax or exp (torch).")] = None,
    loss: Annotated[str | None, typer.Option(help="By default the one that suits the output (torch).")] = None,
    layers: Annotated[
        str | None, typer.Option(help="Names of the layers in their order, such as hidden,out (torch).")
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Names of the classes, such as no,yes (torch).")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64, to convert to (torch).")] = None,
    target: Annotated[str, typer.Option(help="Name of what is predicted, where the file has none.")] = "y",
) -> None:
    """Read another program's model. For example, accelnn import mlp.skops --from sklearn --out model.safetensors."""
    with one_line_errors():
        require_known("--from", source, SOURCES)
        require_writable(out, str(file))
        from accelnn import Network, exchange
        from accelnn.exchange.card import card

        given: dict[str, Any] = {"activations": activation, "output": output, "loss": loss, "dtype": dtype}
        listed = {"activations": activation, "layers": layers, "classes": classes}
        given |= {name: text.split(",") for name, text in listed.items() if text is not None}
        given = {name: value for name, value in given.items() if value is not None}
        if source == "sklearn":
            if given:
                raise DataError(f"--from sklearn: the file says its {', '.join(sorted(given))} itself; leave them out")
            model = exchange.import_sklearn(file, target=target)
        else:
            if len(given.get("activations", ())) == 1:
                (given["activations"],) = given["activations"]
            model = exchange.import_torch(file, target=target, **given)
        model.save(out)
        _show(card(out))
        if isinstance(model, Network):
            typer.echo(
                "it gives more than one class or value, so accelnn predict has no use for it; read it with "
                "accelnn.Network.load",
                err=True,
            )


def _show(found: Mapping[str, Any]) -> None:
    from accelnn.exchange.card_lines import lines

    console = Console()
    for heading, text in lines(found):
        say(console, f"{heading:<9} {text}")
