"""All findings, as text while they are made and as one object for JSON."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from accelnn.backends import BACKENDS, auto_choice, get_backend
from accelnn.backends.availability import find_fault
from accelnn.doctor import machine
from accelnn.doctor.installed import installed
from accelnn.doctor.selftest import self_test

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["examine", "printer"]

Rows = list[tuple[str, str]]


def examine(tell: Callable[[str, Rows], None] = lambda title, rows: None) -> dict[str, Any]:
    """Look at everything and try every usable backend.

    Parameters
    ----------
    tell : callable
        Receives a title and its rows as soon as they are known, for a self-test takes seconds.

    Returns
    -------
    dict
        Of what JSON can hold. ``"passed"`` says whether every usable backend passed its self-test.
    """
    found: dict[str, Any] = {"format": "accelnn-doctor 1", "installed": installed()}
    tell("installed", [(name.replace("_", " "), text or "not found") for name, text in found["installed"].items()])
    for part in (machine.gpus, machine.processors, machine.threads, machine.blas, machine.kernel_cache):
        found[part.__name__] = part()
    tell("machine", _machine_rows(found))
    found["backends"] = {}
    for name in BACKENDS:
        found["backends"][name] = entry = _backend(name, tell)
        tell(f"backend {name}", _backend_rows(entry))
    chosen, reason = auto_choice()
    found["auto"] = {"backend": chosen, "reason": _without_folders(reason)}
    found["passed"] = all(entry["self_test"]["passed"] for entry in found["backends"].values() if entry["usable"])
    tell("backend auto", [("takes", f"{chosen}, because {found['auto']['reason']}")])
    return found


def printer(console: "Console") -> Callable[[str, Rows], None]:
    """A `tell` that prints: a table that fits a terminal, elsewhere a line a row, however long."""
    from rich.table import Table
    from rich.text import Text

    def tell(title: str, rows: Rows) -> None:
        console.print(Text(title, style="bold"))
        width = max(len(label) for label, _ in rows)
        if not console.is_terminal:
            for label, text in rows:
                line = f"  {label:<{width}}  {text}"
                console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
            return
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for label, text in rows:
            cell = Text(text)
            cell.highlight_regex("^passed", "green")
            cell.highlight_regex("^failed", "bold red")
            cell.highlight_regex("^not (usable|found)", "yellow")
            table.add_row(f"  {label}", cell)
        console.print(table)

    return tell


def _backend(name: str, tell: Callable[[str, Rows], None]) -> dict[str, Any]:
    fault = find_fault(name)
    if fault is not None:
        reason, remedy = _without_folders(fault.reason), fault.remedy
        return {"usable": False, "reason": reason, "remedy": remedy, "device": None, "self_test": None}
    with _compilation_announced(name, tell):
        result = asdict(self_test(name))
    if result["problem"]:
        result["problem"] = _without_folders(result["problem"])
    try:
        device = get_backend(name).describe()
    except Exception:  # why it fails, the self-test says
        device = None
    return {"usable": True, "reason": None, "remedy": None, "device": device, "self_test": result}


@contextlib.contextmanager
def _compilation_announced(name: str, tell: Callable[[str, Rows], None]) -> Iterator[None]:
    if name != "numba":
        yield
        return
    from accelnn.kernels import jit

    text = "compiling the kernels for this processor, in both precisions; they are kept for the next run"
    jit.listeners.append(lambda: tell("backend numba", [("first use", text)]))
    yield
    jit.listeners.clear()


def _machine_rows(found: dict[str, Any]) -> Rows:
    rows = [(f"GPU {i}", f"{gpu['name']}, {gpu['memory'] / 2**30:.1f} GiB") for i, gpu in enumerate(found["gpus"])]
    threads, blas, cache = found["threads"], found["blas"], found["kernel_cache"]
    by = f"by {threads['variable']}" if threads["variable"] else "as many as there are processors to use"
    library = " ".join(filter(None, (blas["library"] or "not found", blas["version"])))
    if cache is None:
        kernels = "none: Numba cannot be used"
    else:
        state = "can be written" if cache["writable"] else f"cannot be written: {cache['problem']}"
        kernels = f"{cache['folder']} ({state})"
    return [
        *(rows or [("GPU", "not found")]),
        ("processors", f"{found['processors']['count']}, {found['processors']['model']}"),
        ("threads", threads["problem"] or f"{threads['count']}, {by}"),
        ("BLAS of NumPy", library + (f", {blas['threads']} threads" if blas["threads"] else "")),
        ("kernel cache", kernels),
    ]


def _backend_rows(entry: dict[str, Any]) -> Rows:
    if not entry["usable"]:
        return [("state", f"not usable: {entry['reason']}"), ("remedy", entry["remedy"])]
    result = entry["self_test"]
    words = "passed" if result["passed"] else f"failed: {result['problem']}"
    rows = [
        ("state", f"usable, on {entry['device'] or 'no device'}"),
        ("self-test", f"{words}, in {result['seconds']:.1f} s"),
    ]
    for check in result["checks"]:
        difference = "not finite" if check["difference"] is None else f"{check['difference']:.1e} apart"
        rows.append((f"  {check['dtype']}", f"{check['what']}: {difference}, {check['allowed']:.0e} allowed"))
    if result["examples_per_second"]:
        rows.append(
            ("speed", f"{result['examples_per_second']:,.0f} examples a second (64-100-10, float32, batches of 200)")
        )
    return rows


def _without_folders(text: str) -> str:
    """A message without the folders of whoever runs this, so that it can be shown to others."""
    for folder in (sys.prefix, sys.base_prefix, os.path.expanduser("~")):
        if len(folder) > len("C:\\"):
            text = text.replace(folder, "")
    return re.sub(r"(?<![\w./\\])(?:[A-Za-z]:)?[\\/](?:[^\\/\s'\":;,()]+[\\/])+", "", text)
