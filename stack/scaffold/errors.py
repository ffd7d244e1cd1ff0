"""What can be wrong with a table."""

from __future__ import annotations

from core.errors import DataError


class TableError(DataError):
    """No use case can be made of a table as it was described.

    Args:
        problem: what is wrong, naming the column.
        remedy: the option to give, or what to change in the table.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy
