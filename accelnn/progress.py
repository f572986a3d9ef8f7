"""A run's progress for a person to watch: a live bar on a terminal and in a notebook, elsewhere a line now and then."""

import contextlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING

from accelnn.callbacks import Callback, Progress

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Bar", "Lines", "figures", "shown"]

SECONDS = 0.05  # between two looks of a bar at its run; the terminal is written to 10 times a second

# Two bars of one process would write over each other.
_the_bar = threading.Lock()


def figures(progress: Progress) -> str:
    """The loss, and the validation loss where there is one, as text."""
    text = f"loss {progress.loss:.4g}"
    return text if progress.validation_loss is None else f"{text}  validation loss {progress.validation_loss:.4g}"


class Bar(Callback):
    """A live progress bar of one run; :func:`shown` starts and ends it.

    Parameters
    ----------
    console : rich.console.Console
        A terminal, or a notebook.
    text : callable
        From a Progress to the figures beside the bar.
    transient : bool
        Whether the bar vanishes at the end.

    Attributes
    ----------
    display : rich.progress.Progress
        What rich draws.
    latest : Progress or None
        Where the run stands, as far as the bar has been told.
    """

    def __init__(self, console: "Console", text: Callable[[Progress], str] = figures, transient: bool = False):
        from rich import progress as rich

        self.text = text
        self.latest: Progress | None = None
        self._due = 0.0
        self._remaining = rich.TimeRemainingColumn(), rich.TextColumn("left")
        self.display = rich.Progress(
            rich.TextColumn("{task.description}", markup=False),
            rich.BarColumn(bar_width=None),
            rich.TextColumn("{task.fields[figures]}", markup=False),
            rich.TimeElapsedColumn(),
            *self._remaining,
            console=console,
            transient=transient,
            expand=True,
        )
        self._task = self.display.add_task("", total=None, figures="")

    def on_fit_begin(self, progress: Progress) -> None:
        """Say how many epochs there are to come; the first may take a while, with compilation."""
        self.latest = progress
        self._draw(progress)

    def on_progress(self, progress: Progress) -> None:
        """Move the bar, unless it has only just moved: an epoch may take less time than that."""
        self.latest = progress
        if progress.seconds >= self._due:
            self._due = progress.seconds + SECONDS
            self._draw(progress)

    def finish(self, ending: str) -> None:
        """Leave the bar where the run ended.

        Parameters
        ----------
        ending : str
            What to say of a run that did not reach its last epoch; nothing is said of one that did, if it is "stopped".
        """
        last = self.latest
        if last is None:
            self.display.update(self._task, visible=False)
            return
        self._draw(last)
        if last.epoch < last.epochs or ending != "stopped":
            self.display.update(self._task, description=f"{_epochs(last)}, {ending}")
        self.display.columns = self.display.columns[: -len(self._remaining)]

    def _draw(self, progress: Progress) -> None:
        self.display.update(
            self._task,
            total=progress.steps,
            completed=progress.step,
            description=_epochs(progress),
            figures=self.text(progress) if progress.step else "",
        )


class Lines(Callback):
    """A line at every tenth of the way, for a file or a pipe.

    Parameters
    ----------
    console : rich.console.Console
        Where they are printed.
    """

    def __init__(self, console: "Console"):
        self.console, self.next = console, 0.1

    def on_progress(self, progress: Progress) -> None:
        """Print when the next tenth is reached."""
        share = progress.step / progress.steps
        if share >= self.next:
            line = f"{_epochs(progress)}  {figures(progress)}  {progress.seconds:.1f} s"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
            self.next = 0.1 * (int(10 * share) + 1)


@contextlib.contextmanager
def shown(
    console: "Console | None" = None,
    stream: IO[str] | None = None,
    *,
    plain: Callback | None = None,
    text: Callable[[Progress], str] = figures,
    transient: bool = False,
) -> Iterator[Callback]:
    """Show one run of training while it lasts.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where; by default on `stream`.
    stream : text stream, optional
        By default standard output, through the console that programs share with rich.
    plain : Callback, optional
        What takes the place of the bar where no bar can live; by default :class:`Lines`.
    text : callable
        From a Progress to the figures beside the bar: a line without a line break.
    transient : bool
        Whether the bar vanishes at the end. Otherwise it stays as it was then, and says so if that was before the
        last epoch.

    Yields
    ------
    Callback
        To be given to the run: a :class:`Bar` on a terminal and in a notebook, else `plain`. A second bar at the same
        time, and one of a worker process, would spoil the first, so they are plain too.

    Notes
    -----
    An error or Ctrl-C passes through, and leaves the terminal as it was, the cursor included.
    """
    import rich
    from rich.console import Console
    from rich.errors import LiveError

    if console is None:
        console = rich.get_console() if stream is None else Console(file=stream)
    with contextlib.ExitStack() as after:
        bar = None
        if _can_move(console) and _the_bar.acquire(blocking=False):
            after.callback(_the_bar.release)
            new = Bar(console, text, transient)
            after.callback(new.display.stop)
            # Before version 14.1, rich has one live display at a time, which may be the caller's own.
            with contextlib.suppress(LiveError):
                new.display.start()
                bar = new
        if bar is None:
            yield Lines(console) if plain is None else plain
            return
        try:
            yield bar
        except BaseException as problem:
            bar.finish("interrupted" if isinstance(problem, KeyboardInterrupt) else "failed")
            raise
        bar.finish("stopped")


def _can_move(console: "Console") -> bool:
    if multiprocessing.parent_process() is not None:
        return False
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None  # without it, rich warns and shows nothing
    return console.is_terminal and console.is_interactive


def _epochs(progress: Progress) -> str:
    return f"epoch {progress.epoch}/{progress.epochs}"
