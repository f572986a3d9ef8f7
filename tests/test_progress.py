"""What a person sees while a network trains: a bar that ends where the run ends, or plain lines, or nothing."""

import contextlib
import inspect
import io
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import rich.console
from conftest import data, make
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import accelnn
from accelnn import Callback, DataError, DivergenceError, Progress, progress
from accelnn.progress import Bar, Lines, figures, shown

CONTROL = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|[^\x1b\r\n]+|\r|\n")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What decides that something is a terminal, whoever runs the tests."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "JUPYTER_COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def terminal(width=100, **options):
    return Console(force_terminal=True, file=io.StringIO(), width=width, **options)


def written(console):
    return console.file.getvalue()


def screen(console):
    """The lines that a terminal shows after what has been written to it."""
    lines, row = [""], 0
    for found in CONTROL.finditer(written(console)):
        text, (count, command) = found[0], found.groups()
        if command == "A":
            row = max(row - int(count or 1), 0)
        elif command == "K":
            assert count == "2"
            lines[row] = ""
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif command is None and text != "\r":
            lines[row] += text
    return [line.rstrip() for line in lines if line.strip()]


def at(step, steps=100, epochs=10, loss=0.5, validation_loss=None, seconds=None):
    return Progress(
        network=None,
        epoch=step * epochs // steps,
        epochs=epochs,
        step=step,
        steps=steps,
        examples=step,
        loss=loss,
        validation_loss=validation_loss,
        learning_rate=0.1,
        seconds=step / 10 if seconds is None else seconds,
    )


def now(bar, console):
    """The line of the bar at this moment."""
    bar.display.refresh()
    return screen(console)[-1]


class Stop(Callback):
    def __init__(self, epoch, what=None):
        self.epoch, self.what = epoch, what

    def on_epoch_end(self, progress):
        if progress.epoch == self.epoch and self.what is not None:
            raise self.what
        return progress.epoch == self.epoch


def train(*callbacks, epochs=50, **options):
    net = make("numpy")
    X, Y = data()
    return net.fit(X, Y, learning_rate=0.1, epochs=epochs, callbacks=callbacks, **options)


# The bar.


def test_the_bar_shows_epochs_figures_and_times():
    clock = [0.0]
    console = terminal(get_time=lambda: clock[0])
    with shown(console) as bar:
        assert isinstance(bar, Bar)
        clock[0] = 1.0  # rich looks at the times twice a second
        bar.on_fit_begin(at(0, loss=np.nan))
        assert re.fullmatch(r"epoch 0/10 \S+ +0:00:01 -:--:-- left", now(bar, console))
        clock[0] = 11.0
        bar.on_progress(at(10, loss=1.23456))
        assert re.fullmatch(r"epoch 1/10 \S+ loss 1\.235 0:00:11 -:--:-- left", now(bar, console))
        clock[0] = 31.0
        bar.on_progress(at(30, loss=0.25, validation_loss=0.75))
        line = now(bar, console)
        assert re.fullmatch(r"epoch 3/10 \S+ loss 0\.25  validation loss 0\.75 0:00:31 0:01:10 left", line)
        assert bar.latest.step == 30


def test_other_figures_can_stand_beside_the_bar():
    console = terminal()
    with shown(console, text=lambda progress: f"{figures(progress)}  [score] {0.875:.3f}") as bar:
        bar.on_progress(at(10))
    assert "loss 0.5  [score] 0.875" in screen(console)[-1]


def test_a_whole_run_leaves_one_full_bar():
    console = terminal()
    X, Y = data()
    with shown(console) as bar:
        history = train(bar, epochs=7, validation=(X, Y))
    (line,) = screen(console)
    J, J_validation = history.loss[-1], history.validation_loss[-1]
    assert re.fullmatch(
        rf"epoch 7/7 ━+ loss {re.escape(f'{J:.4g}')}  validation loss {re.escape(f'{J_validation:.4g}')} 0:00:0\d", line
    )


def test_an_early_end_is_said_and_the_bar_stays_where_it_was():
    console = terminal()
    with shown(console) as bar:
        train(Stop(20), bar)
    (line,) = screen(console)
    assert re.match(r"epoch 20/50, stopped ━", line)
    assert "left" not in line
    assert bar.latest.epoch == 20
    (task,) = bar.display.tasks
    assert (task.completed, task.total) == (20, 50)


@pytest.mark.parametrize(
    ("problem", "word"),
    [(KeyboardInterrupt(), "interrupted"), (DivergenceError("x"), "failed"), (MemoryError(), "failed")],
)
def test_an_error_passes_through_and_gives_the_terminal_back(problem, word):
    console, streams = terminal(), (sys.stdout, sys.stderr)

    def fail(epoch):
        with shown(console) as bar:
            train(bar, Stop(epoch, problem))

    for epoch in (5, 50):
        with pytest.raises(type(problem)):
            fail(epoch)
        assert re.match(f"epoch {epoch}/50, {word} ━", screen(console)[-1])
        assert written(console).count(HIDE) == written(console).count(SHOW) > 0
        assert written(console).rfind(SHOW) > written(console).rfind(HIDE)
        assert (sys.stdout, sys.stderr) == streams


def test_an_error_before_the_first_epoch_leaves_no_bar_behind():
    console = terminal()

    def fail():
        with shown(console) as bar:
            train(bar, epochs=0)

    with pytest.raises(DataError):
        fail()
    assert screen(console) == []
    assert written(console).endswith(SHOW)


def test_a_broken_figure_still_gives_the_terminal_back():
    console = terminal()
    with pytest.raises(ZeroDivisionError), shown(console, text=lambda progress: str(1 / 0)) as bar:
        bar.on_progress(at(10))
    assert written(console).rfind(SHOW) > written(console).rfind(HIDE)
    with shown(terminal()) as bar:
        assert isinstance(bar, Bar)


def test_a_transient_bar_vanishes():
    console = terminal()
    with shown(console, transient=True) as bar:
        bar.on_progress(at(10))
        assert now(bar, console).startswith("epoch 1/10")
    assert screen(console) == []


def test_what_is_printed_meanwhile_stands_above_the_bar():
    console = terminal()
    with shown(console) as bar:
        bar.on_progress(at(10))
        print("first")
        bar.on_progress(at(20))
        print("second", file=sys.stderr)
    first, second, line = screen(console)
    assert (first, second) == ("first", "second")
    assert line.startswith("epoch 2/10, stopped")


def test_short_epochs_are_not_drawn_one_by_one():
    console, drawn = terminal(), []

    def text(progress):
        drawn.append(progress.step)
        return ""

    with shown(console, text=text) as bar:
        for step in range(1, 1001):
            bar.on_progress(at(step, 1000, 1000, seconds=step * 1e-4))
    assert drawn[0] == 1
    assert drawn[-1] == 1000
    assert len(drawn) <= 4
    assert "epoch 1000/1000" in screen(console)[-1]


def test_a_bar_lets_the_epochs_of_a_short_run_be_trained_together():
    """It wants to know of progress, not of each epoch."""
    assert Bar.on_epoch_end is Lines.on_epoch_end is Callback.on_epoch_end


def test_a_second_bar_at_the_same_time_is_plain():
    with shown(terminal()) as first:
        with shown(terminal()) as second:
            assert isinstance(second, Lines)
        with shown(terminal(), plain=first) as second:
            assert second is first
    with shown(terminal()) as third:
        assert isinstance(third, Bar)


def test_a_live_display_of_the_caller_is_not_disturbed():
    """Newer versions of rich put the bar below it; older ones have one display, and the bar is plain."""
    from rich.progress import track

    console = terminal()
    for _ in track(range(2), "folds", console=console):
        with shown(console) as callback:
            callback.on_progress(at(100))
    assert screen(console)[-1].startswith("folds")
    assert "epoch 10/10" in "".join(screen(console))
    assert written(console).endswith(SHOW)


def test_a_narrow_terminal_gets_one_line_too():
    console = terminal(width=40)
    with shown(console) as bar:
        bar.on_progress(at(10, validation_loss=0.5))
        bar.on_progress(at(20, validation_loss=0.5))
    (line,) = screen(console)
    assert line.startswith("epoch 2")


# Where no bar can live.


def test_without_a_terminal_there_are_plain_lines():
    stream = io.StringIO()
    with shown(stream=stream) as callback:
        assert isinstance(callback, Lines)
        train(callback, epochs=30)
    lines = stream.getvalue().splitlines()
    assert 1 <= len(lines) <= 10
    assert all(re.fullmatch(r"epoch \d+/30  loss \d\.\d+  \d\.\d s", line) for line in lines)
    assert lines[-1].startswith("epoch 30/30  ")


def test_the_caller_may_say_what_takes_the_place_of_the_bar():
    stream, own = io.StringIO(), Callback()
    with shown(stream=stream, plain=own) as callback:
        assert callback is own
        train(callback)
    assert stream.getvalue() == ""


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_there_are_ten_lines_at_most_and_one_at_the_end(parts):
    """However the run is cut into calls."""
    console, steps = Console(file=io.StringIO()), sum(parts)
    lines = Lines(console)
    for step in np.cumsum(parts).tolist():
        lines.on_progress(at(step, steps, epochs=steps))
    printed = [int(epoch) for epoch in re.findall(rf"^epoch (\d+)/{steps}  ", written(console), re.M)]
    assert printed[-1] == steps
    tenths = [int(10 * epoch / steps) for epoch in printed]
    assert tenths == sorted({*tenths} - {0})


def test_the_default_stream_is_standard_output(capsys):
    with shown() as callback:
        callback.on_progress(at(100))
    with shown(stream=sys.stderr) as callback:
        callback.on_progress(at(50))
    out, err = capsys.readouterr()
    assert out.startswith("epoch 10/10")
    assert err.startswith("epoch 5/10")


def test_a_worker_process_draws_no_bar(monkeypatch):
    """Several of them would write over each other."""
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    with shown(terminal()) as callback:
        assert isinstance(callback, Lines)


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TTY_INTERACTIVE", "0"), ("TTY_COMPATIBLE", "0")])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(name, value, monkeypatch):
    monkeypatch.setenv(name, value)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    if name not in inspect.getsource(rich.console):
        pytest.skip(f"this version of rich does not know {name}")
    with shown(stream=Terminal()) as callback:
        assert isinstance(callback, Lines)
    monkeypatch.delenv(name)
    monkeypatch.setenv("TERM", "xterm")
    with shown(stream=Terminal()) as callback:
        assert isinstance(callback, Bar)


@pytest.fixture
def notebook(monkeypatch):
    """Stand-ins for what a notebook has: the widgets that were displayed."""
    widgets = []

    class Output(contextlib.nullcontext):
        def clear_output(self, wait):
            self.cleared = wait

        def close(self):
            widgets.remove(self)

    def display(what):
        if isinstance(what, Output):
            widgets.append(what)

    for name, members in {
        "IPython": {},
        "IPython.display": {"display": display},
        "ipywidgets": {"Output": Output},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    return widgets


def test_a_notebook_gets_a_bar(notebook, monkeypatch):
    monkeypatch.setattr(progress, "find_spec", lambda name: name)
    console = Console(force_jupyter=True, file=io.StringIO())
    with shown(console) as bar:
        assert isinstance(bar, Bar)
        bar.on_progress(at(10))
        bar.display.refresh()
    assert len(notebook) == 1


def test_a_notebook_without_widgets_gets_lines(monkeypatch):
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    with shown(Console(force_jupyter=True, file=io.StringIO())) as callback:
        assert isinstance(callback, Lines)


# Silence, unless asked.


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_nothing_is_printed_by_default(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    train()
    X, Y = data()
    accelnn.MLPRegressor(max_iter=2, backend="numpy").fit(X.T, Y.T)
    accelnn.MLPClassifier(max_iter=2, backend="numpy").fit(X.T, np.arange(50) % 3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a matter of Unix")
def test_ctrl_c_on_a_real_terminal_gives_the_cursor_back():
    import pty

    code = """if True:
        import numpy as np
        from accelnn import Network
        from accelnn.progress import shown
        net = Network([3, 8, 1], backend="numpy")
        try:
            with shown() as bar:
                net.fit(np.ones((3, 100)), np.ones(100), epochs=10**7, callbacks=[bar])
        except KeyboardInterrupt:
            print("caught")
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = ""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(ours, 4096).decode(errors="replace"):
            if "epoch" in part and "epoch" not in text:
                process.send_signal(signal.SIGINT)
            text += part
    os.close(ours)
    assert process.wait(60) == 0
    assert re.search(r"epoch \d+/10000000, interrupted", text)
    assert "caught" in text
    assert text.rfind(SHOW) > text.rfind(HIDE) >= 0
