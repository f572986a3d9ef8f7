"""Examples that are read as they are needed, so that a data set may be larger than memory.

An epoch is trained on window by window. A window's examples lie in memory, in one of two buffers, while the next
window is read into the other by a thread. With shuffling, a window is made of pieces of the data, each some consecutive
examples, in an order that is drawn anew for every epoch, and the examples of a window are drawn in another. Every
example is seen once an epoch; those of a batch come from a window's pieces and not from all of the data.
"""

import math
import mmap
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn import checks
from accelnn.errors import DataError
from accelnn.feeding import Part, hashed, look_at
from accelnn.state import Batches

if TYPE_CHECKING:
    from accelnn.network import Network

__all__ = ["Stream", "StreamFeed"]

MEMORY = 2**28
PIECE = 2**18  # bytes of consecutive examples: long enough that reading them is not a search on the disk
PATIENCE = 0.1  # seconds after which whoever waits for a window may look at something else
LOOKS_APART = 8  # of a stream, which may be slow to look into, every eighth of the examples that stand for all
_DRAWN, _WINDOW = 3, 4  # which of a seed's streams of random numbers: of pieces, and of a window's examples

Block = tuple[Any, Any, Any]


class Stream:
    """Examples for :meth:`accelnn.Network.fit` that are read window by window.

    Parameters
    ----------
    X : array of shape (n_0, m)
        Examples are columns, usually the ``.T`` of a memory map of shape (m, n_0), whose rows are read together.
    Y : array of shape (n_L, m), or a vector of length m, as for `fit`
    sample_weight : vector of length m, optional
        Weights above 0.
    memory : int
        Bytes that the two windows may take together. Besides them there are the piece that is being read, twice where
        it has another precision, 16 bytes an example for orders, the network, its optimiser and one batch.
    piece : int, optional
        Consecutive examples that stay together when the data is shuffled; by default about 256 KiB of them.

    Raises
    ------
    DataError
        For shapes that do not fit together.

    Examples
    --------
    >>> rows, labels = np.zeros((1000, 3), "float32"), np.zeros(1000, "int64")
    >>> data = Stream(rows.T, labels, memory=2**20)
    >>> net = Network([3, 8, 2], output="softmax", backend="numpy")
    >>> history = net.fit(data, batch_size=32, epochs=2)
    """

    def __init__(self, X: Any, Y: Any, sample_weight: Any = None, *, memory: int = MEMORY, piece: int | None = None):
        if checks.is_sparse(X):
            raise DataError("X: is sparse, which a Stream cannot be; fit takes it as it is, in memory")
        if getattr(X, "ndim", 0) != 2 or not hasattr(X, "dtype"):
            raise DataError("X: give an array of two dimensions, examples as columns, such as a memory map's .T")
        m = X.shape[1]
        Y = Y if isinstance(Y, np.ndarray) else np.asarray(Y)
        if Y.shape[-1:] != (m,):
            raise DataError(f"Y: has shape {Y.shape}, but X has {m} examples as columns")

        def read(start: int, stop: int) -> tuple[Any, Any]:
            return X[:, start:stop], Y[..., start:stop]

        self._set(read, m, sample_weight, memory, piece, _announcer(X))

    @classmethod
    def from_reader(
        cls,
        read: Callable[[int, int], tuple[Any, Any]],
        examples: int,
        sample_weight: Any = None,
        *,
        memory: int = MEMORY,
        piece: int | None = None,
    ) -> "Stream":
        """From a function that reads any range of the examples.

        Parameters
        ----------
        read : callable
            ``read(start, stop)`` gives X of shape (n_0, stop - start) and Y likewise, examples as columns. It is called
            by one thread at a time.
        examples : int
        sample_weight, memory, piece
            As for the constructor.
        """
        stream = cls.__new__(cls)
        stream._set(read, checks.integer("examples", examples, 1), sample_weight, memory, piece)
        return stream

    @classmethod
    def from_batches(
        cls,
        batches: Callable[[], Iterable[tuple[Any, ...]]] | Iterable[tuple[Any, ...]],
        examples: int | None = None,
        *,
        memory: int = MEMORY,
    ) -> "Stream":
        """From an iterator of pairs X and Y, or of X, Y and sample_weight, of whatever sizes.

        They are shuffled within a window only: who gives them in an order should mix them before.

        Parameters
        ----------
        batches : callable or iterable
            A function that starts an iterator anew for each epoch, or an object that can be iterated again and again.
            X has shape (n_0, k), examples as columns.
        examples : int, optional
            In an epoch; by default they are counted by one pass before training. Weights need that pass.
        memory
            As for the constructor.
        """
        start = batches if callable(batches) else lambda: batches
        if not callable(batches) and iter(batches) is batches:
            raise DataError(
                "batches: can be iterated once only, but each epoch reads them anew; give a function that starts an "
                "iterator"
            )
        stream = cls.__new__(cls)
        stream._set(None, 0 if examples is None else checks.integer("examples", examples, 1), None, memory, None)
        stream.start = start
        return stream

    def _set(
        self,
        read: Callable[[int, int], tuple[Any, Any]] | None,
        examples: int,
        sample_weight: Any,
        memory: int,
        piece: int | None,
        announce: Callable[[int, int], None] | None = None,
    ) -> None:
        self.read, self.examples, self.sample_weight = read, examples, sample_weight
        self.memory = checks.integer("memory", memory, 1)
        self.piece = None if piece is None else checks.integer("piece", piece, 1)
        self.start: Callable[[], Iterable[tuple[Any, ...]]] | None = None
        self.announce = announce


class StreamFeed:
    """A stream as a run of training reads it; see :class:`accelnn.feeding.Feed`.

    Parameters
    ----------
    stream : Stream
    network : Network
    size : int
        Of a batch.
    shuffle : bool
    """

    sparse = False
    epochs_at_once: int | None = 1

    def __init__(self, stream: Stream, network: "Network", size: int, shuffle: bool):
        self.stream, self.network, self.shuffle = stream, network, shuffle
        m, total = stream.examples, 0.0
        self.weighs: Any = stream.sample_weight is not None
        if stream.start is not None:
            m, total, self.weighs = self._counted()
        elif self.weighs:
            self._weights = checks.weights("sample_weight", stream.sample_weight, m, network.backend)
            if not self._weights.all():
                raise DataError("sample_weight: a weight is 0; leave such examples out of a Stream")
            total = math.fsum(self._weights)
        self.penalty_scale = m / total if self.weighs else 1.0
        size = min(size, m)
        n_0, n_L, width = network.sizes[0], network.sizes[-1], np.dtype(network.dtype).itemsize
        row = (n_0 + n_L + self.weighs) * width
        window = stream.memory // (2 * row) // size * size
        if window == 0:
            raise DataError(
                f"memory: {stream.memory} bytes do not hold two windows of one batch of {size} examples; give at least "
                f"{2 * row * size}, or a smaller batch_size"
            )
        self.window = min(window, -(-m // size) * size)
        self.piece = min(stream.piece or max(1, PIECE // row), m)
        order = "as given"
        if shuffle:
            order = f"drawn from windows of {self.window}"
            order += f" and pieces of {self.piece}" if stream.start is None else ""
        self.batches = Batches(m, size, order)
        self._buffers: list[Block] = []
        self._fingerprint: str | None = None
        self._left = False

    def fingerprint(self) -> str:
        """See `Feed.fingerprint`; of an iterator nothing is looked at. It is not asked for while something is read."""
        if self._fingerprint is None:
            self._fingerprint = ""
            if self.stream.read is not None:
                chosen = look_at(self.batches.examples)[::LOOKS_APART]
                found = [self.stream.read(int(k), int(k) + 1) for k in chosen]
                weights = [self._weights[chosen]] if self.weighs else []
                self._fingerprint = hashed([*(np.asarray(array) for pair in found for array in pair), *weights])
        return self._fingerprint

    def order(self, epoch: int) -> np.ndarray:
        """The numbers of the examples in the order in which an epoch of the network's life sees them."""
        m = self.batches.examples
        at = (
            np.arange(m)
            if self.stream.read is None
            else np.concatenate([np.arange(a, b) for a, b in self._pieces(epoch)])
        )
        parts = []
        for k, start in enumerate(range(0, m, self.window)):
            rows = at[start : start + self.window]
            parts.append(rows[self._drawn(epoch, k, len(rows))] if self.shuffle else rows)
        return np.concatenate(parts)

    def parts(self, epoch: int, count: int, skip: int) -> Iterator[Part | None]:
        """See `Feed.parts`: each window is one."""
        assert count == 1
        m, size = self.batches.examples, self.batches.size
        steps = self.window // size
        fill = self._by_pieces(epoch) if self.stream.read is not None else self._in_turn(epoch)
        windows = range(skip // steps, -(-m // self.window))
        while len(self._buffers) < min(2, len(windows)):
            self._buffers.append(self._buffer())
        buffers, self._left = self._buffers, False
        reader = ThreadPoolExecutor(1, thread_name_prefix="accelnn-reader")
        try:
            coming = reader.submit(fill, windows[0], buffers[0])
            for k in windows:
                while not coming.done():
                    wait([coming], PATIENCE)
                    if not coming.done():
                        yield None
                arrays = coming.result()
                if k + 1 in windows:
                    coming = reader.submit(fill, k + 1, buffers[(k + 1 - windows[0]) % 2])
                length = arrays[0].shape[1]
                order = np.empty((1, 0), np.int64)
                if self.shuffle:
                    order = self._drawn(epoch, k, length)[None, :]
                yield Part(arrays, order, k * steps, -(-length // size), max(0, skip - k * steps))
        finally:
            self._left = True  # who reads ends with the piece at hand
            reader.shutdown(wait=True, cancel_futures=True)

    def _drawn(self, epoch: int, window: int, length: int) -> np.ndarray:
        return np.random.default_rng([self.network.seed, _WINDOW, epoch, window]).permutation(length)

    def _pieces(self, epoch: int) -> np.ndarray:
        """Begin and end of each piece, in the order of an epoch."""
        m = self.batches.examples
        starts = np.arange(0, m, self.piece)
        pieces = np.stack([starts, np.minimum(starts + self.piece, m)], axis=1)
        if self.shuffle:
            pieces = pieces[np.random.default_rng([self.network.seed, _DRAWN, epoch]).permutation(len(pieces))]
        return pieces

    def _buffer(self) -> Block:
        sizes = self.network.sizes
        X, Y, w = (np.empty((self.window, n), self.network.dtype) for n in (sizes[0], sizes[-1], int(self.weighs)))
        return X, Y, w

    def _by_pieces(self, epoch: int) -> Callable[..., Block]:
        """What fills a buffer with any window of an epoch."""
        pieces = self._pieces(epoch)
        ends = np.cumsum(pieces[:, 1] - pieces[:, 0])
        m = self.batches.examples

        def fill(window: int, buffer: Block) -> Block:
            start, stop = window * self.window, min((window + 1) * self.window, m)
            ranges, at, k = [], start, int(np.searchsorted(ends, start, side="right"))
            while at < stop:
                begin = int(pieces[k, 1] - (ends[k] - at))
                length = min(int(ends[k]) - at, stop - at)
                ranges.append((at - start, begin, begin + length))
                at, k = at + length, k + 1
            if self.stream.announce is not None:
                for _, begin, end in ranges:
                    self.stream.announce(begin, end)
            for place, begin, end in ranges:
                if self._left:
                    break
                self._put(buffer, place, begin, end)
            return _columns(buffer, stop - start)

        return fill

    def _put(self, buffer: Block, at: int, begin: int, end: int) -> None:
        """Read examples into a buffer, from place `at` on."""
        assert self.stream.read is not None
        X, Y = self.stream.read(begin, end)
        w = self._weights[begin:end] if self.weighs else None
        self._check_and_copy(buffer, at, X, Y, w, begin, end - begin)

    def _check_and_copy(self, buffer: Block, at: int, X: Any, Y: Any, w: Any, first: int, m: int) -> None:
        """Into a buffer; `first` is the number of the first example, for errors."""
        network, backend = self.network, self.network.backend
        try:
            X = checks.matrix("X", np.asarray(X), network.sizes[0], network.dtype, backend)
            Y = np.asarray(Y)
            Y = checks.targets("Y", Y, X.shape[1], network.loss_entry, network.sizes[-1], network.dtype, backend)
            if X.shape[1] != m:
                raise DataError(f"X: has {X.shape[1]} examples, where {m} were to come")
        except DataError as problem:
            raise DataError(f"{problem} (counted from example {first} of the stream on)") from None
        buffer[0][at : at + m], buffer[1][at : at + m] = X.T, Y.T
        if w is not None:
            buffer[2][at : at + m, 0] = w * self.penalty_scale

    def _in_turn(self, epoch: int) -> Callable[..., Block]:
        """What fills a buffer with the next window of an iterator; those before the first one asked for are skipped."""
        blocks = self._blocks()
        rest: list[tuple[int, Any, Any, Any]] = []
        read = 0  # examples that have come from the iterator

        def fill(window: int, buffer: Block) -> Block:
            nonlocal read
            m = self.batches.examples
            start, stop = window * self.window, min((window + 1) * self.window, m)
            at = start
            while at < stop and not self._left:
                if not rest:
                    X, Y, w = next(blocks, (None, None, None))
                    if X is None:
                        raise DataError(f"batches: ended after {read} examples in this epoch; there should be {m}")
                    rest.append((read, X, Y, w))
                    read += X.shape[1]
                first, X, Y, w = rest.pop()
                if read <= at:
                    continue
                begin = at - first
                length = min(X.shape[1] - begin, stop - at)
                part = slice(begin, begin + length)
                weights = None if w is None else w[part]
                self._check_and_copy(buffer, at - start, X[:, part], Y[..., part], weights, at, length)
                if begin + length < X.shape[1]:
                    rest.append((first, X, Y, w))
                at += length
            if stop == m and not self._left and (rest or next(blocks, None) is not None):
                raise DataError(f"batches: gave more than {m} examples in this epoch; give their number as examples=")
            return _columns(buffer, stop - start)

        return fill

    def _blocks(self) -> Iterator[Block]:
        """What an iterator gives, as three arrays."""
        assert self.stream.start is not None
        for k, block in enumerate(self.stream.start()):
            if not isinstance(block, tuple | list) or len(block) not in (2, 3):
                raise DataError(f"batches: number {k} is no pair (X, Y), nor (X, Y, sample_weight)")
            X, Y, w = (*block, None)[:3]
            X, Y = np.asarray(X), np.asarray(Y)
            if X.ndim != 2 or Y.ndim not in (1, 2) or Y.shape[-1] != X.shape[1]:
                raise DataError(
                    f"batches: number {k} has X of shape {X.shape} and Y of shape {Y.shape}; examples are columns"
                )
            if not X.shape[1]:
                continue
            if self.weighs is not None and self.weighs is not (w is not None):
                raise DataError("batches: some have weights and others have none")
            if w is not None:
                w = checks.weights(f"batches: number {k}: sample_weight", w, X.shape[1], self.network.backend)
                if not w.all():
                    raise DataError(f"batches: number {k}: a weight is 0; leave such examples out")
            yield X, Y, w

    def _counted(self) -> tuple[int, float, bool]:
        """Examples, the sum of their weights, and whether they have any."""
        m, self.weighs = self.stream.examples, None
        counted = 0

        def weights() -> Iterator[float]:
            nonlocal counted
            for X, _, w in self._blocks():
                self.weighs = w is not None
                counted += X.shape[1]
                if w is not None:
                    yield from w.tolist()
                elif m:
                    return  # their number was given

        total = math.fsum(weights())
        if not counted:
            raise DataError("batches: there is none")
        if m and self.weighs and m != counted:
            raise DataError(f"examples: {m} were said to come, but there are {counted}")
        return m or counted, total, bool(self.weighs)


def _columns(buffer: Block, m: int) -> Block:
    X, Y, w = (array[:m].T for array in buffer)
    return X, Y, w


def _announcer(X: Any) -> Callable[[int, int], None] | None:
    """What tells the operating system which examples of a memory map come next; None for what is no such map.

    Page after page, each read when it is touched, a disk gives a small part of its speed.
    """
    pages: Any = getattr(X, "_mmap", None)
    if not isinstance(X, np.memmap) or not hasattr(pages, "madvise") or not X.flags.f_contiguous:
        return None
    first = X.ctypes.data - np.frombuffer(pages, np.uint8).ctypes.data
    width = X.shape[0] * X.itemsize

    def announce(begin: int, end: int) -> None:
        start = (first + begin * width) // mmap.PAGESIZE * mmap.PAGESIZE
        pages.madvise(mmap.MADV_WILLNEED, start, first + end * width - start)

    return announce
