"""How a run of training comes by its examples: all at once, or part by part."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from accelnn.state import Batches

__all__ = ["Feed", "InMemory", "Part", "batch_order", "fingerprint", "hashed", "look_at"]


@dataclass(frozen=True)
class Part:
    """Examples that are in memory, and the steps that train on them.

    Attributes
    ----------
    arrays : tuple
        X, Y and w with examples as columns, on the host or where the backend computes.
    order : array of int64, shape (epochs, m) or (epochs, 0)
        In which order each epoch visits them; empty for the order that they have.
    first, steps : int
        The number of the first step among those laid out, and how many there are.
    skip : int
        Of these, how many have been done before.
    """

    arrays: tuple[Any, Any, Any]
    order: np.ndarray
    first: int
    steps: int
    skip: int


class Feed(Protocol):
    """What a run asks for its examples.

    Attributes
    ----------
    batches : Batches
    sparse, weighs : bool
        Whether X is sparse, and whether examples have weights.
    penalty_scale : float
        See :class:`accelnn.network.Examples`.
    epochs_at_once : int or None
        How many epochs can be laid out in one go at most.
    """

    batches: Batches
    sparse: bool
    weighs: bool
    penalty_scale: float
    epochs_at_once: int | None

    def fingerprint(self) -> str:
        """What tells the data from other data, by a look at some examples; empty where they cannot be looked at."""
        ...

    def parts(self, epoch: int, count: int, skip: int) -> Iterator[Part | None]:
        """The examples of `count` epochs from number `epoch` of the network's life on, without the first steps.

        None says that the next part is still being read.
        """
        ...


def batch_order(seed: int, epoch: int, m: int) -> np.ndarray:
    """The order in which epoch number `epoch` of a network's life visits m examples.

    A function of the seed and the epoch alone: the same on every backend, and after a restart.
    """
    return np.random.default_rng([seed, 1, epoch]).permutation(m)


LOOKS = 64  # examples that stand for all of them


def look_at(m: int) -> np.ndarray:
    """Some numbers of examples, from the first to the last."""
    return np.unique(np.linspace(0, m - 1, LOOKS).astype(np.int64))


def hashed(arrays: Iterable[np.ndarray]) -> str:
    """A short name for the values of arrays of numbers, whatever their precision."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


def fingerprint(arrays: Iterable[Any], rows_of: Callable[[Any, np.ndarray], np.ndarray]) -> str:
    """The same of some of the examples of X, Y and w; ``rows_of(array, chosen)`` gives them as rows on the host."""
    return hashed([rows_of(array, look_at(array.shape[1])) for array in arrays])


class InMemory:
    """All examples at once.

    Parameters
    ----------
    arrays : tuple
        X, Y and w, checked.
    penalty_scale : float
    size : int
        Of a batch.
    shuffle : bool
    seed : int
        The network's.
    sparse : bool
    host : callable
        ``host(array, chosen)``, some examples of an array as rows on the host.
    """

    def __init__(
        self,
        arrays: tuple[Any, Any, Any],
        penalty_scale: float,
        size: int,
        shuffle: bool,
        seed: int,
        sparse: bool,
        host: Callable[[Any, np.ndarray], np.ndarray],
    ):
        self.arrays, self.penalty_scale, self.seed, self.sparse = arrays, penalty_scale, seed, sparse
        m = arrays[0].shape[1]
        self.shuffle = shuffle and size < m
        self.batches = Batches(m, size, "shuffled" if self.shuffle else "as given")
        self.epochs_at_once: int | None = None
        self.weighs = arrays[2].shape[0] > 0
        self.host, self._fingerprint = host, ""

    def fingerprint(self) -> str:
        """See `Feed.fingerprint`."""
        if not self._fingerprint:
            self._fingerprint = fingerprint(self.arrays, self.host)
        return self._fingerprint

    def parts(self, epoch: int, count: int, skip: int) -> Iterator[Part]:
        """See `Feed.parts`."""
        m = self.batches.examples
        if self.shuffle:
            order = np.stack([batch_order(self.seed, epoch + e, m) for e in range(count)])
        else:
            order = np.empty((count, 0), dtype=np.int64)
        yield Part(self.arrays, order, 0, count * -(-m // self.batches.size), skip)
