"""What a network needs to know of a table: how its columns become numbers, and a network that knows its table."""

from accelnn.tables.model import TableModel
from accelnn.tables.schema import Schema

__all__ = ["Schema", "TableModel"]
