"""Run one piece of source with other meanings for the names in it.

The equations, the activations, the losses and the update rules are plain functions that call a few verbs by bare
name. A :class:`Binding` copies such a function with a backend's verbs in place of those names. Functions that it
calls in turn are copied with it, so binding the page's entry point binds the whole page.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from types import CodeType, FunctionType
from typing import Any

from accelnn import elementary

__all__ = ["Binding", "free"]


def free(*arguments: Any) -> Any:
    """Stands for a name that only a binding gives a meaning."""
    raise NameError("this function runs only as a copy whose free names are bound; see accelnn.binding")


class Binding:
    """A set of names and the meaning they get.

    Parameters
    ----------
    names : mapping of str to object
        What each bare name stands for in the copies. In a function from outside accelnn only those names are taken
        that mean :mod:`accelnn.elementary`'s there, or nothing: its own `sign`, or its own constant, stays its own.
    wrap : callable, optional
        Applied to every copy, for instance a compiler.
    constant : callable, optional
        Applied to every float constant, for instance ``numpy.float32``: a compiler that gives a plain ``0.5``
        double precision would otherwise compute a float32 formula in float64.
    kept : collection of functions
        Which are not copied where a function names them.
    """

    def __init__(
        self,
        names: Mapping[str, Any],
        wrap: Callable | None = None,
        constant: Callable[[float], Any] | None = None,
        kept: Collection[FunctionType] = (),
    ):
        self.names = dict(names)
        self.wrap = wrap or (lambda function: function)
        self.constant = constant or (lambda number: number)
        self.kept = frozenset(kept)
        self._copies: dict[FunctionType, Any] = {}
        self._lock = threading.RLock()  # a copy may be looked up before its names have their meanings

    def __call__(self, function: Callable) -> Any:
        """The copy of a plain Python function under this binding; the same object each time."""
        assert isinstance(function, FunctionType)
        with self._lock:
            return self._bound(function)

    def _bound(self, function: FunctionType) -> Any:
        if function not in self._copies:
            meanings: dict[str, Any] = {"__builtins__": __builtins__, "__name__": function.__module__}
            code = self._with_constants(function.__code__)
            copy = FunctionType(code, meanings, function.__name__, function.__defaults__, function.__closure__)
            copy.__kwdefaults__ = function.__kwdefaults__
            copy.__doc__, copy.__qualname__, copy.__module__ = (
                function.__doc__,
                function.__qualname__,
                function.__module__,
            )
            self._copies[function] = self.wrap(copy)
            for name in _names(code):
                given = function.__globals__.get(name, free)
                taken = _is_ours(function) or given is free or given is getattr(elementary, name, None)
                if name in self.names and taken:
                    meanings[name] = self._meaning(self.names[name], function)
                elif name in function.__globals__:
                    meanings[name] = self._meaning(given, function)
        return self._copies[function]

    def _with_constants(self, code: CodeType) -> CodeType:
        """The code with its float constants converted, those of nested functions included."""

        def converted(constant: Any) -> Any:
            if isinstance(constant, CodeType):
                return self._with_constants(constant)
            return self.constant(constant) if isinstance(constant, float) else constant

        return code.replace(co_consts=tuple(map(converted, code.co_consts)))

    def _meaning(self, value: Any, user: FunctionType) -> Any:
        """What `value` becomes where `user` names it: a function of ours or of the user's package is bound as well."""
        if isinstance(value, FunctionType) and value in self.kept:
            return value
        if isinstance(value, FunctionType) and (_is_ours(value) or _package(value) == _package(user)):
            return self(value)
        return self.constant(value) if isinstance(value, float) else value


def _package(function: FunctionType) -> str:
    return function.__module__.partition(".")[0]


def _is_ours(function: FunctionType) -> bool:
    return _package(function) == "accelnn"


def _names(code: CodeType) -> set[str]:
    """Every global name that the code may look up, nested functions and generators included."""
    nested = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*nested)
