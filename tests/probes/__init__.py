"""How each feature is tried: a probe takes a backend and a dtype, and gives arrays to compare with the reference's.

A probe may also give words, where the feature means nothing to a backend. `BY_DESIGN` lists those cases and the
refusals; any other word or error is a fault.
"""

from probes.common import make, quietly, used
from probes.estimators import ESTIMATORS
from probes.inputs import INPUTS
from probes.methods import METHODS, OTHERS
from probes.parameters import every_parameter

from accelnn import Network, Optimizer
from accelnn.activations import HIDDEN, OUTPUTS
from accelnn.initializers import INITIALIZERS
from accelnn.losses import LOSSES
from accelnn.network import DTYPES
from accelnn.optimizers import RULES

__all__ = ["BY_DESIGN", "GROUPS"]

# What is not a plain yes, by feature and backend.
BY_DESIGN = {
    ("device", "numpy"),
    ("device", "numba"),
    ("threads", "numpy"),
    ("threads", "cupy"),
    *((kind, backend) for kind in ("DLPack on a GPU", "CUDA array interface") for backend in ("numpy", "numba")),
}


def built_with(**options):
    return lambda backend, dtype: used(make(backend, **{"dtype": dtype, **options}))


def trained_with(name):
    """An update rule with its defaults, and with all of its hyperparameters halved."""

    def probe(backend, dtype):
        halved = {key: value / 2 for key, value in RULES[name].hyperparameters.items()}
        net = make(backend, dtype=dtype)
        return [result for choice in (name, Optimizer(name, **halved)) for result in used(net, optimizer=choice)]

    return probe


def listed(rule):
    hyperparameters = ", ".join(rule.hyperparameters)
    return f"{rule.name} ({hyperparameters})" if hyperparameters else rule.name


def in_precision(name):
    """The loop over dtypes does the work; a row says so."""
    return lambda backend, dtype: used(make(backend, dtype=dtype)) if dtype == name else []


GROUPS = {
    "precision": {name: in_precision(name) for name in DTYPES},
    "hidden activation": {name: built_with(activations=name) for name in HIDDEN},
    "output": {name: built_with(output=name) for name in OUTPUTS},
    "loss (output)": {f"{loss} ({out})": built_with(loss=loss, output=out) for loss, out in LOSSES},
    "starting weights": {name: quietly(built_with(init=name)) for name in INITIALIZERS},
    "optimiser": {listed(rule): trained_with(rule.name) for rule in RULES.values()},
    "parameter of Network": every_parameter(Network.__init__),
    "parameter of fit": every_parameter(Network.fit),
    "parameter of loss_and_gradient": every_parameter(Network.loss_and_gradient),
    "method of Network": METHODS,
    "network": OTHERS,
    "X and Y": INPUTS,
    **ESTIMATORS,
}
