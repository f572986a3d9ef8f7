"""From a file to what a network takes, and back: reading tables, their schema, and a network that knows its table."""

from accelnn.tables.model import TableModel
from accelnn.tables.reading import Features, load_features, load_table
from accelnn.tables.splitting import split

__all__ = ["Features", "TableModel", "load_features", "load_table", "split"]
