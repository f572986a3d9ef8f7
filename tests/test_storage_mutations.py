"""A thousand damaged files of each kind, and files that lie: none is taken for a good one, and none costs much.

Damage is random and seeded. Changes of the structure are such that no file of accelnn's could have them; half of them
come with a checksum that fits, so that what stands behind it is tried, too.
"""

import copy
import ctypes
import gc
import json
import os
import random
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from forging import closed, framed, opened, resealed

from accelnn import MLPClassifier, ModelFileError, Network
from accelnn.checkpoints import Checkpoint
from accelnn.earlystopping import EarlyStopping
from accelnn.readers import load_table
from accelnn.schedules import ReduceOnPlateau
from accelnn.tables import TableModel

MUTATIONS = 1000
SECONDS, MEGABYTES = 1.0, 50.0

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 40)), RNG.integers(2, size=40)


# Files of each kind, and what reads them.


def make_model(path):
    net = Network([3, 5, 4, 1], ["gelu", "tanh"], seed=4, dtype="float64", backend="numpy")
    net.fit(X, Y, epochs=3)
    net.save(path)


def load_model(path):
    Network.load(path, "numpy")


TABLE = """age,city,paid,outcome
31,Ulm,true,no
,Bonn,false,yes
45,,true,no
52,"Kiel, North",false,yes
"""


def make_table_model(path):
    """Of columns of each kind, with what was missing."""
    table = path.with_suffix(".csv")
    table.write_text(TABLE)
    given = load_table(table, "outcome")
    model = TableModel.untrained(given, None, (5,), "tanh", missing="impute", backend="numpy")
    model.network.fit(*model.encoded(given.X, given.y), epochs=2)
    model.save(path)


def load_table_model(path):
    TableModel.load(path, "numpy")


def make_estimator(path):
    options = {"learning_rate": ReduceOnPlateau(patience=1), "calibration": "sigmoid", "validation_fraction": 0.5}
    weights = {"no": 1.0, "yes": 2, "maybe": 3.0}
    model = MLPClassifier((5,), max_iter=3, tol=1.0, random_state=0, backend="numpy", class_weight=weights, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(np.tile(X.T, (2, 1)), np.array(["no", "yes", "maybe"])[np.arange(80) % 3])
    model.save(path)


def load_estimator(path):
    MLPClassifier.load(path)


FIT = {"optimizer": "adam", "epochs": 4, "batch_size": 10, "schedule": ReduceOnPlateau(), "dropout": 0.2}


def make_checkpoint(path):
    """Of a position within an epoch."""

    class Stop(Checkpoint):
        def on_progress(self, progress):
            super().on_progress(progress)
            return progress.step == 6

    net = Network([3, 5, 1], seed=4, backend="numpy")
    net.fit(X, Y, **FIT, callbacks=[EarlyStopping(), Stop(path.parent / "run", every=2)])
    Path(path.parent, "run", "step-000000000006.safetensors").rename(path)


def load_checkpoint(path):
    Network([3, 5, 1], seed=4, backend="numpy").fit(X, Y, **FIT, callbacks=[EarlyStopping()], resume=path)


KINDS = {
    "model": (make_model, load_model),
    "model of a table": (make_table_model, load_table_model),
    "estimator": (make_estimator, load_estimator),
    "checkpoint": (make_checkpoint, load_checkpoint),
}

FREE = [("sha256",)]  # which is made to fit
# Where another number, or nothing, makes another file, and no bad one.
ANY_NUMBER = [
    ("network", "seed"),
    ("description",),
    ("training", "schedule"),
    ("training", "settings", "schedule"),
    ("training", "optimizer", "schedule"),
    ("estimator", "parameters"),
    ("estimator", "attributes"),
    ("estimator", "calibration"),
]
OPTIONAL = [("description", "table", "schema")]  # of a column, what it has by default is left out


# Damage to bytes.


def truncated(content, rng):
    return content[: rng.randrange(len(content))]


def truncated_near_a_seam(content, rng):
    seams = [8, len(content) - len(opened(content)[2]), len(content)]
    return content[: max(0, rng.choice(seams) - rng.randrange(1, 9))]


def extended(content, rng):
    return content + rng.choice([b"\0", b" ", rng.randbytes(rng.randrange(1, 9000)), content, b"\0" * 10**6])


def flipped(content, rng, start=0):
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 50])):
        changed[rng.randrange(start, len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed) if bytes(changed) != content else truncated(content, rng)


def flipped_in_the_tensors(content, rng):
    return flipped(content, rng, len(content) - len(opened(content)[2]))


def overwritten(content, rng):
    start, length = rng.randrange(len(content)), rng.randrange(1, 200)
    changed = content[:start] + rng.randbytes(length) + content[start + length :]
    return changed if changed != content else truncated(content, rng)


def without_a_piece(content, rng):
    start = rng.randrange(len(content) - 1)
    return content[:start] + content[start + rng.randrange(1, 100) :]


def with_a_piece_twice(content, rng):
    start = rng.randrange(len(content) - 1)
    piece = content[start : start + rng.randrange(1, 100)]
    return content[:start] + piece + content[start:]


def of_another_length(content, rng):
    numbers = [0, 1, len(content), 2**24, 2**24 + 1, 2**31, 2**63, 2**64 - 1, rng.randrange(2**64), rng.randrange(3000)]
    return rng.choice(numbers).to_bytes(8, "little") + content[8:]


def of_another_format(content, rng):
    return rng.choice(
        [b"\x80\x04K\x01.", b"PK\x03\x04" + content, b"", b"\x93NUMPY" + content, content[8:], b"{}" * 99]
    )


BYTES = [truncated, truncated_near_a_seam, extended, flipped, flipped_in_the_tensors, overwritten, without_a_piece]
BYTES += [with_a_piece_twice, of_another_length, of_another_format]


# Changes of what the description says: (about, header, data, rng) to a description, which may be text that is no JSON.

MARK = "\x7fplace of text that is no JSON\x7f"


def places(value, path=()):
    """Every place of a description, as a list of keys."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def within(path, groups):
    return any(path[: len(group)] == group for group in groups)


def chosen(about, rng, fits=lambda value, path: True):
    """A place whose value can be changed."""
    known = [path for path in places(about) if path and not within(path, FREE)]
    return rng.choice([path for path in known if fits(value_at(about, path), path)])


def value_at(about, path):
    for key in path:
        about = about[key]
    return about


def put(about, path, value):
    value_at(about, path[:-1])[path[-1]] = value
    return about


def another_type(about, header, data, rng):
    path = chosen(about, rng)
    value = value_at(about, path)
    others = [[["evil"], None], *([] if isinstance(value, str) else ["evil"])]
    if value != {}:  # a user's own description, which may say anything
        others.append({"evil": [1]})
    if not within(path, ANY_NUMBER):
        if isinstance(value, str):
            others += [12, 1.5, None, False]
        elif type(value) is int:
            others += [value + 0.5, str(value), None, True, -value - 1, [value]]
        elif isinstance(value, float):
            others += [None, str(value), [value], True]
        elif isinstance(value, dict | list):
            others += [3, 1.5, True, json.dumps(value)]
    return put(about, path, rng.choice([other for other in others if other != value]))


def without_a_name(about, header, data, rng):
    path = chosen(about, rng, lambda value, path: isinstance(path[-1], str) and not within(path[:-1], OPTIONAL))
    del value_at(about, path[:-1])[path[-1]]
    return about


def another_name(about, header, data, rng):
    path = chosen(about, rng, lambda value, path: isinstance(path[-1], str))
    parent = value_at(about, path[:-1])
    parent[rng.choice(["evil", "", path[-1].upper(), path[-1] + "_", "__class__"])] = parent.pop(path[-1])
    return about


def a_name_twice(about, header, data, rng):
    path = chosen(about, rng, lambda value, path: isinstance(path[-1], str))
    value = value_at(about, path)
    pair = f"{json.dumps(path[-1])}: {json.dumps(value)}"
    return json.dumps(put(about, path, MARK)).replace(
        f"{json.dumps(path[-1])}: {json.dumps(MARK)}", f"{pair}, {pair}", 1
    )


def text_in_a_place(about, rng, text):
    return json.dumps(put(about, chosen(about, rng), MARK)).replace(json.dumps(MARK), text)


def no_number(about, header, data, rng):
    return text_in_a_place(about, rng, rng.choice(["NaN", "Infinity", "-Infinity", "1e999", "-1e400", "9" * 5000]))


def no_json(about, header, data, rng):
    return text_in_a_place(about, rng, rng.choice([",", "'a'", "0x10", "01", "[1,]", '{"a" 1}', "}", '"\x01"', "1 2"]))


def nested(about, header, data, rng):
    depth = rng.choice([1100, 5000, 10**5, 400_000])
    opening, closing = rng.choice([("[", "]"), ('{"a": ', "}")])
    return text_in_a_place(about, rng, opening * depth + "1" + closing * depth)


def a_huge_number(about, header, data, rng):
    groups = [*ANY_NUMBER, ("training", "callbacks")]
    path = chosen(about, rng, lambda value, path: type(value) is int and not within(path, groups))
    return put(about, path, rng.choice([2**63, 2**64, -(2**63), 10**30, 10**400, -(10**4000)]))


def many_layers(about, header, data, rng):
    network, units = about["network"], rng.choice([1, 5, 10**12])
    count = rng.choice([10**3, 10**5, 10**6])
    what = rng.choice([("sizes",), ("sizes", "activations"), ("activations",)])
    for name in what:
        network[name] = [units] * count if name == "sizes" else ["relu"] * (count - 2)
    return about


def other_sizes(about, header, data, rng):
    sizes = about["network"]["sizes"]
    k = rng.randrange(len(sizes))
    sizes[k] = rng.choice([0, -1, -sizes[k], sizes[k] + 1, 10**12, 2**31, 2**63, 10**30])
    return about


def an_unknown_word(about, header, data, rng):
    network = about["network"]
    word = rng.choice(["evil", "", "os.system", "relu\0", "RELU", "x" * 10**5])
    name = rng.choice(["activations", "output", "loss", "init", "dtype"])
    network[name] = [word] * len(network["activations"]) if name == "activations" else word
    return about


def another_kind(about, header, data, rng):
    about["kind"] = rng.choice(["evil", "", "Model", "model2"])
    return about


def another_version(about, header, data, rng):
    about["format"] = rng.choice([0, 1, 3, 99, 10**8, 10**30, "2", 2.0, None, [2], True, -2])
    return about


def another_description(about, header, data, rng):
    return rng.choice(
        ["", "null", "3", "[]", "{}", '"text"', json.dumps([about]), json.dumps(json.dumps(about)), "nul"]
    )


STRUCTURE = [another_type, another_type, another_type, without_a_name, another_name, a_name_twice, no_number, no_json]
STRUCTURE += [nested, a_huge_number, many_layers, other_sizes, an_unknown_word, another_kind, another_version]
STRUCTURE += [another_description]


# Changes of the header, which says where the arrays lie: (header, data, rng) to a header, or its bytes, and data.


def an_array(header, rng, least=0):
    names = [name for name in header if name != "__metadata__"]
    large = [name for name in names if header[name]["data_offsets"][1] - header[name]["data_offsets"][0] >= least]
    return rng.choice(large)


def another_shape(header, data, rng):
    name = an_array(header, rng, 8)
    shape = header[name]["shape"]
    shapes = [[10**12], [10**6, 10**6], [2**63], [2**32, 2**32], [-1], [0], [], [*shape, 2], [shape[0] + 1, *shape[1:]]]
    shapes += [["1"], None, 5, [1.5], [[1]], [True]]
    header[name]["shape"] = rng.choice([other for other in shapes if other != shape])
    return header, data


def other_offsets(header, data, rng):
    """Negative, backwards, overlapping, with a hole, or beyond the end."""
    name = an_array(header, rng, 8)
    first, last = header[name]["data_offsets"]
    others = [
        [first, last + 8],
        [first + 8, last],
        [-8, last],
        [last, first],
        [first, 10**12],
        [0, 2**64],
        [-(2**63), 0],
    ]
    others += [[first - 8, last - 8], [first], [first, last, last], None, "0", [str(first), last], [first, float(last)]]
    header[name]["data_offsets"] = rng.choice(others)
    return header, data


def overlapping(header, data, rng):
    names = [name for name in header if name != "__metadata__" and header[name]["data_offsets"][0] != 0]
    name = rng.choice([n for n in names if header[n]["data_offsets"][1] > header[n]["data_offsets"][0]])
    first, last = header[name]["data_offsets"]
    header[name]["data_offsets"] = [0, last - first]
    return header, data


def another_dtype(header, data, rng):
    name = an_array(header, rng, 8)
    known = ["F64", "F32", "F16", "BF16", "I64", "U64", "I32", "I8", "BOOL", "C64", "F8_E4M3", "evil", "", None, 64]
    header[name]["dtype"] = rng.choice([dtype for dtype in known if dtype != header[name]["dtype"]])
    return header, data


def without_an_array(header, data, rng):
    del header[an_array(header, rng)]
    return header, data


def an_array_by_another_name(header, data, rng):
    header["evil"] = header.pop(an_array(header, rng))
    return header, data


def an_array_twice(header, data, rng):
    header["evil"] = copy.deepcopy(header[an_array(header, rng, 8)])
    return header, data


def an_odd_entry(header, data, rng):
    entry = header[an_array(header, rng)]
    if rng.random() < 0.5:
        entry["more"] = 1
    else:
        del entry[rng.choice(["dtype", "shape", "data_offsets"])]
    return header, data


def odd_metadata(header, data, rng):
    text = header["__metadata__"]["accelnn"]
    header["__metadata__"] = rng.choice([{"accelnn": text, "more": "1"}, {"other": text}, {}, None, [text], text])
    return header, data


def compact(header):
    return json.dumps(header, separators=(",", ":"))


def an_odd_header(header, data, rng):
    text = compact(header)
    texts = [f"[{text}]", text + text, text[:-1], text.replace(":", ";"), "[" * 10**5 + "]" * 10**5, "", "null", '"a"']
    texts += [
        text[:-1] + ',"theta":' + json.dumps(header["theta"]) + "}",
        text.replace("shape", "sh\u00e4pe"),
        text[:-1] + ",",
    ]
    return rng.choice(texts).encode(), data


def more_data(header, data, rng):
    return header, data + rng.choice([b"\0", b"\0" * 8, data, b"\0" * 10**6])


def less_data(header, data, rng):
    return header, data[: -rng.choice([1, 8, len(data)])]


def no_finite_number(header, data, rng):
    first, last = header["theta"]["data_offsets"]
    kind = "<f8" if header["theta"]["dtype"] == "F64" else "<f4"
    theta = np.frombuffer(data[first:last], kind).copy()
    theta[rng.randrange(len(theta))] = rng.choice([np.nan, np.inf, -np.inf])
    return header, data[:first] + theta.tobytes() + data[last:]


HEADER = [another_shape, other_offsets, overlapping, another_dtype, without_an_array, an_array_by_another_name]
HEADER += [an_array_twice, an_odd_entry, odd_metadata, an_odd_header, more_data, less_data, no_finite_number]


def mutation(content, seed):
    """What was done, and the bytes that it gave."""
    rng = random.Random(seed)
    sealed = rng.random() < 0.5
    about, header, data = opened(content)
    group = rng.choice([BYTES, STRUCTURE, STRUCTURE, HEADER])
    change = rng.choice(group)
    if group is BYTES:
        return change.__name__, change(content, rng)
    if group is STRUCTURE:
        changed = closed(change(about, header, data, rng), header, data)
    else:
        header, data = change(header, data, rng)
        changed = framed(
            header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode(), data
        )
    return change.__name__ + (", sealed" if sealed else ""), resealed(changed) if sealed else changed


# Trying them.


def peak(reset=False):
    """The most memory that this process has had since the last reset, in bytes."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def refusal(load, path):
    """What a ModelFileError says; any other answer is one that names no file."""
    try:
        load(path)
    except ModelFileError as problem:
        return str(problem)
    except BaseException as fault:
        return f"instead, {fault!r}"
    return "instead, it was loaded"


def try_all(kind, count, folder, measures):
    """Load that many mutations of a file; the most seconds and bytes that one took, and how many of each there were."""
    make, load = KINDS[kind]
    path = Path(folder, "file")
    make(path)
    content = path.read_bytes()
    for _ in range(2):
        load(path)  # what is imported on the way is none of a bad file's
    seconds, bytes_, kinds = [], [], Counter()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda spare: None) if measures else None
    gc.collect()
    gc.freeze()
    for seed in range(count):
        what, changed = mutation(content, f"{kind} {seed}")
        path.write_bytes(changed)
        del changed
        if trim:
            gc.collect()
            trim(0)
            before = peak(reset=True)
        start = time.perf_counter()
        message = refusal(load, path)
        seconds.append(time.perf_counter() - start)
        if trim:
            bytes_.append(peak() - before)
        assert str(path) in message, f"{seed}, {what}: {message}"
        assert len(message) < len(str(path)) + 400, f"{seed}, {what}"
        kinds[what] += 1
    return max(seconds), max(bytes_, default=0), kinds


def main(kind, folder):
    """In a process of its own: print the figures."""
    warnings.simplefilter("error")
    seconds, bytes_, kinds = try_all(kind, MUTATIONS, folder, measures=os.access("/proc/self/clear_refs", os.W_OK))
    sealed = sum(count for what, count in kinds.items() if what.endswith("sealed"))
    print(json.dumps({"refused": sum(kinds.values()), "sealed": sealed, "seconds": seconds, "megabytes": bytes_ / 1e6}))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_bad_files_are_refused_at_once_and_cheaply(kind, tmp_path, capsys):
    code = f"import {__name__} as tests; tests.main({kind!r}, {str(tmp_path)!r})"
    result = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    with capsys.disabled():
        print(f"\n{kind}: {figures}")
    assert figures["refused"] == MUTATIONS
    assert figures["sealed"] > MUTATIONS / 4
    assert figures["seconds"] < SECONDS
    assert figures["megabytes"] < MEGABYTES


@pytest.mark.parametrize("kind", KINDS)
def test_bad_files_are_refused(kind, tmp_path):
    """The first of the thousand."""
    try_all(kind, 100, tmp_path, measures=False)


@pytest.mark.parametrize("kind", KINDS)
def test_every_change_is_one(kind, tmp_path):
    """A file that is taken apart and put together again is as it was, and loads; each kind of change makes another."""
    make, load = KINDS[kind]
    make(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    again = resealed(closed(*opened(content)))
    (tmp_path / "file").write_bytes(again)
    load(tmp_path / "file")
    names = {change.__name__ for change in (*BYTES, *STRUCTURE, *HEADER)}
    seen = set()
    for seed in range(400):
        what, changed = mutation(content, f"{kind} {seed}")
        assert changed not in (content, again), what
        seen.add(what.partition(",")[0])
    assert seen == names
