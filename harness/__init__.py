"""The referee: the only house that knows both mixers and tasks."""

__version__ = "0.1.0"

# Raised when a change to the referee could change a row's results; rows of different protocols never share a table.
PROTOCOL = 1
ROW_VERSION = 1
