"""From classes to numbers for the network, and back."""

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from accelnn.errors import DataError

__all__ = ["MULTILABEL", "Labels", "balanced", "checked"]

MULTILABEL = "multilabel-indicator"


def checked(y: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    """Targets as a vector of classes, or as a matrix with a column of 0 and 1 for each label; and which of these.

    Raises
    ------
    DataError, ValueError
        Where they are no classes.
    """
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.ndim == 1 and y.dtype.kind in "iubU":
        return y, "classes"  # scikit-learn would come to the same, in many times the time
    check_classification_targets(y)
    kind = type_of_target(y, input_name=name)
    if y.ndim == 2 and kind != MULTILABEL:
        raise DataError(f"{name}: has {y.shape[1]} columns of classes; give one, or a column of 0 and 1 for each label")
    return y, MULTILABEL if kind == MULTILABEL else "classes"


def balanced(y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
    """Weights by which all classes weigh the same in all.

    Parameters
    ----------
    y : array of shape (m,) or (m, n_labels)
        Of labels, the weights are the product of what each label's two classes would be given.
    sample_weight : array of shape (m,), optional
        What the examples weigh before: one of weight k counts k times.

    Returns
    -------
    array of shape (m,)
        Without `sample_weight`, scikit-learn's "balanced": m over the product of the number of classes and the class's
        number of examples.
    """
    weights, result = np.ones(len(y)) if sample_weight is None else sample_weight, np.ones(len(y))
    for column in y.reshape(len(y), -1).T:
        _, numbers = np.unique(column, return_inverse=True)
        totals = np.bincount(numbers, weights)
        share = np.sum(weights) / np.count_nonzero(totals)
        result *= (share / np.where(totals > 0, totals, 1.0))[numbers]
    return result


class Labels:
    """The classes, or labels, that a classifier knows.

    Parameters
    ----------
    given : array
        Targets that hold all of them, as `checked` returns them.
    kind : str
    name : str
        Of `given`, in errors.

    Attributes
    ----------
    classes : array
        Sorted; of labels, their numbers.
    multilabel, binary : bool
        Whether the classes are labels, any number of which an example may have; whether one unit is enough for them.
    """

    def __init__(self, given: np.ndarray, kind: str, name: str):
        self.multilabel = kind == MULTILABEL
        try:
            self.classes = np.arange(given.shape[1]) if self.multilabel else np.unique(given)
        except TypeError:
            raise DataError(f"{name}: mixes kinds of values that have no order; give numbers, or text") from None
        self.binary = not self.multilabel and len(self.classes) == 2
        if len(self.classes) < 2 and not self.multilabel:
            raise DataError(f"{name}: holds one class only, {self.classes.tolist()}; a classifier needs two or more")

    def encode(self, y: np.ndarray, kind: str, name: str) -> np.ndarray:
        """One column for two classes (1 is the second), else one for each class or label, of 0 and 1.

        Raises
        ------
        DataError
            For classes that are not known, or labels where classes are, or the reverse.
        """
        if (kind == MULTILABEL) is not self.multilabel or (self.multilabel and y.shape[1] != len(self.classes)):
            raise DataError(f"{name}: has shape {y.shape}, which is not of the kind that the network has been made for")
        if self.multilabel:
            return np.asarray(y)
        # Sorting costs less than looking up each, where there are many.
        found, numbers = np.unique(y, return_inverse=True)
        places = np.minimum(np.searchsorted(self.classes, found), len(self.classes) - 1)
        strange = found[self.classes[places] != found]
        if len(strange):
            raise DataError(
                f"{name}: holds classes that the network has not been made for, {strange.tolist()}; it knows "
                f"{self.classes.tolist()}. Give all classes in the first call of partial_fit, or fit anew"
            )
        numbers = places[numbers]
        return numbers[:, None] if self.binary else numbers[:, None] == np.arange(len(self.classes))

    def decide(self, P: Any) -> Any:
        """Numbers of the most probable classes, or the labels whose probability is above a half."""
        if self.multilabel:
            return (P > 0.5).astype(int)
        return (P[:, -1] > 0.5).astype(int) if self.binary else P.argmax(axis=1)
