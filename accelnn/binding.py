"""Run one piece of source with other meanings for the names in it.

The equations, the activations, the losses and the update rules are plain functions that call a few verbs by bare
name. A :class:`Binding` copies such a function with a backend's verbs in place of those names. Functions that it
calls in turn are copied with it, so binding the page's entry point binds the whole page.
"""

from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any

__all__ = ["Binding", "free"]


def free(*arguments: Any) -> Any:
    """Stands for a name that only a binding gives a meaning."""
    raise NameError("this function runs only as a copy whose free names are bound; see accelnn.binding")


class Binding:
    """A set of names and the meaning they get.

    Parameters
    ----------
    names : mapping of str to object
        What each bare name stands for in the copies.
    wrap : callable, optional
        Applied to every copy, for instance a compiler.
    constant : callable, optional
        Applied to every float constant, for instance ``numpy.float32``: a compiler that gives a plain ``0.5``
        double precision would otherwise compute a float32 formula in float64.
    """

    def __init__(
        self, names: Mapping[str, Any], wrap: Callable | None = None, constant: Callable[[float], Any] | None = None
    ):
        self.names = dict(names)
        self.wrap = wrap or (lambda function: function)
        self.constant = constant or (lambda number: number)
        self._copies: dict[FunctionType, Any] = {}

    def __call__(self, function: Callable) -> Any:
        """The copy of a plain Python function under this binding; the same object each time."""
        assert isinstance(function, FunctionType)
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
                if name in self.names:
                    meanings[name] = self._meaning(self.names[name], function)
                elif name in function.__globals__:
                    meanings[name] = self._meaning(function.__globals__[name], function)
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
        if isinstance(value, FunctionType) and value.__module__.partition(".")[0] in (
            "accelnn",
            user.__module__.partition(".")[0],
        ):
            return self(value)
        return self.constant(value) if isinstance(value, float) else value


def _names(code: CodeType) -> set[str]:
    """Every global name that the code may look up, nested functions and generators included."""
    nested = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*nested)
