"""What still counts as coherent while a dose grows."""

from __future__ import annotations

from dataclasses import replace

from workbench.evaluate.dose import DoseProbe, Limits


def test_what_lies_on_a_limit_of_a_sweep_breaks_nothing_and_what_is_no_number_breaks_all() -> None:
    at = DoseProbe(1.0, 0.1, 1.2, 0.2)
    assert Limits().broken_by(at) == ""
    for name, probe in (("KL", replace(at, kl_nats=0.11)), ("perplexity", replace(at, perplexity_ratio=1.21))):
        assert Limits().broken_by(probe) == name
    assert Limits().broken_by(replace(at, repetition_rise=0.21)) == "repetition"
    assert Limits().broken_by(replace(at, kl_nats=float("nan"))) == "KL"
