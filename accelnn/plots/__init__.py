"""Pictures of a training, a decision boundary and the weights, in the form of scikit-learn's display objects.

Importing this package does not import matplotlib; drawing does, and says how to install it where it is missing.
"""

from accelnn.plots.boundary import plot_decision_boundary
from accelnn.plots.history import HistoryDisplay
from accelnn.plots.weights import NetworkDisplay, plot_network

__all__ = ["HistoryDisplay", "NetworkDisplay", "plot_decision_boundary", "plot_network"]
