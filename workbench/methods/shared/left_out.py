"""Which texts of both sides go when a row of the set goes."""

from __future__ import annotations

from workbench.data.demonstrations import Demonstrations
from workbench.data.sides import GENERAL, Side, are_pairs, concepts, side_of


def owners(rows: Demonstrations) -> dict[Side, list[int]]:
    """The number of the row that each text of a side is of, in the order of `sides.two_sides`."""
    about = [i for i, row in enumerate(rows) if GENERAL not in row.tags]
    if not are_pairs(rows):
        names = concepts(rows)
        sides = {i: side_of(row, names, None) for i, row in enumerate(rows)}
        if any(sides.values()):
            return {
                "target": [i for i, side in sides.items() if side == "target"],
                "anti_target": [i for i, side in sides.items() if side == "anti_target"],
            }
        about = [i for i in about if rows[i].positive and rows[i].negative]
    return {"target": about, "anti_target": about}


def gone(owned: list[int], row: int) -> list[int]:
    """The places of a side's texts that are of a row."""
    return [at for at, owner in enumerate(owned) if owner == row]
