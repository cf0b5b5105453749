"""What a fit to canonical examples says of its epochs: numbers of the kept one, curves of what was measured, and what went wrong."""

from __future__ import annotations

import math

import pytest

from workbench.methods.registry import Curve, Notice
from workbench.methods.shared.epochs import Epochs

WHOLE = Epochs([3.0, 2.0, 1.0], [0.0, 0.01, 0.5], [0.0, 0.25, 0.75], kept=1)
BARE = Epochs([3.0, 2.0], [math.nan, math.nan], [], kept=1)


def test_numbers_are_those_of_the_kept_epoch_and_curves_those_of_all() -> None:
    numbers = {"n_fit": 7.0, "kept_epoch": 1.0, "loss_before_nats": 3.0, "loss_after_nats": 2.0, "general_loss_rise": 0.01}
    told = WHOLE.scalars(7, 4, 90, 1.5)
    assert told.items() >= numbers.items() and (told["n_general_tokens"], told["n_checks"]) == (90.0, 4.0)
    assert (told["success_before"], told["success_after"]) == (0.0, 0.25) and 1.5 in told.values()
    assert not {"success_before", "n_checks"} & BARE.scalars(7, 4, 90, 1.5).keys()
    x = (0.0, 1.0, 2.0)
    assert WHOLE.curves() == (
        Curve("training loss", x, (3.0, 2.0, 1.0), "epoch", "nats per token"),
        Curve("general loss rise", x, (0.0, 0.01, 0.5), "epoch", "ρ − 1"),
        Curve("success in other words", x, (0.0, 0.25, 0.75), "epoch", "share"),
    )
    assert BARE.curves() == (Curve("training loss", (0.0, 1.0), (3.0, 2.0), "epoch", "nats per token"),)


def test_what_went_wrong_is_told_with_what_to_do() -> None:
    assert WHOLE.notices(has_neutral=True, borrowed=False) == []
    unheld = Notice("warning", "No row has neutral text, so nothing holds the rest of the model back.", "Add rows of role general.")
    lent = Notice("note", "The set has no neutral text; the embedded world's holds the model.", "Add rows of role general.")
    assert WHOLE.notices(has_neutral=False, borrowed=True) == [unheld] and WHOLE.notices(has_neutral=True, borrowed=True) == [lent]
    hint = "Allow a wider ball, a smaller learning rate, or more hold."
    empty = Notice("warning", "No epoch stayed in the ball, so the edit is empty.", hint)
    assert Epochs([3.0, 2.0], [0.0, 0.5]).notices(has_neutral=True, borrowed=False) == [empty]
    still = Notice("warning", "The training loss did not fall.", "Raise the learning rate or the number of epochs.")
    assert Epochs([3.0, 3.0], [0.0, 0.0], kept=1).notices(has_neutral=True, borrowed=False) == [still]
    assert Epochs([3.0, 2.9], [0.0, 0.0], kept=1).notices(has_neutral=True, borrowed=False) == []
    with pytest.raises(IndexError):
        Epochs().scalars(0, 0, 0, 0.0)
