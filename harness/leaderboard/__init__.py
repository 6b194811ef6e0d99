"""Leaderboards: tables and pictures made from rows, and from nothing else."""

from harness.leaderboard.check import check
from harness.leaderboard.console import compare, terminal_table
from harness.leaderboard.publish import publish
from harness.leaderboard.rows import Row, RowsError, as_csv, frame, read_rows

__all__ = ["Row", "RowsError", "as_csv", "check", "compare", "frame", "publish", "read_rows", "terminal_table"]
