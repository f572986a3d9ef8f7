"""Every example runs as it stands, without a warning, and leaves a picture that shows something."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def colors(path):
    """How many colours a picture has, and which share of it the most frequent one covers."""
    pixels = matplotlib.image.imread(path)[..., :3]
    codes = (np.round(pixels * 255).astype(np.int64) @ [65536, 256, 1]).ravel()
    counts = np.unique(codes, return_counts=True)[1]
    return len(counts), counts.max() / codes.size


def test_there_is_a_gallery():
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_shows(script):
    text = script.read_text()
    explained = ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 60
    assert f"python examples/{script.name} [--out FOLDER]" in explained
    assert f"writes {script.stem.removesuffix('_boundary')}.png" in explained


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_leaves_its_picture(script, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    command = [sys.executable, "-W", "error", str(script), "--out", str(tmp_path / "new" / "folder")]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    assert "%" in result.stdout or "R²" in result.stdout
    pictures = list((tmp_path / "new" / "folder").iterdir())
    assert [picture.name for picture in pictures] == [f"{script.stem.removesuffix('_boundary')}.png"]
    count, share = colors(pictures[0])
    assert count > 200
    assert share < 0.95


def test_an_empty_picture_is_told_from_one_that_shows_something(tmp_path):
    matplotlib.image.imsave(tmp_path / "empty.png", np.ones((9, 9, 3)))
    matplotlib.image.imsave(tmp_path / "noise.png", np.random.default_rng(0).uniform(size=(40, 40, 3)))
    assert colors(tmp_path / "empty.png") == (1, 1.0)
    assert colors(tmp_path / "noise.png")[0] > 200
