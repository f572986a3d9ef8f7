"""From a file to a data set: one module a format, and what guards against each format's faults."""

from accelnn.readers.reading import Features, load_features, load_table
from accelnn.readers.splitting import split

__all__ = ["Features", "load_features", "load_table", "split"]
