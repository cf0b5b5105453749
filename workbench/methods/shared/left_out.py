"""Which texts of both sides go when a row of the set goes."""

from __future__ import annotations

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import Side, rows_of_sides


def owners(rows: Demonstrations) -> dict[Side, list[int]]:
    """The number of the row that each text of a side is of, in the order of `sides.two_sides`."""
    at = {id(row): i for i, row in enumerate(rows)}
    return {side: [at[id(row)] for row in mine] for side, mine in rows_of_sides(rows).items()}


def gone(owned: list[int], row: int) -> list[int]:
    """The places of a side's texts that are of a row."""
    return [at for at, owner in enumerate(owned) if owner == row]
