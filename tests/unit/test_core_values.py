"""Sites, knobs, progress, demonstrations: small values that everything stands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import BadKnob, BadSite, NotEnoughData, UnknownKnob
from workbench.knobs import as_json, configured, knob, knobs
from workbench.progress import Cancelled, Progress, Report
from workbench.sites import Site


@pytest.mark.parametrize(
    "text", ["", "resid", "resid_post", "resid_post@", "resid_post@-1", "mlp_out@2.3", "ln_final@2", "w_e@1", "param:"]
)
def test_what_is_not_an_address_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(BadSite) as told:
        Site.parse(text)
    assert told.value.hint


def test_raw_parameters_have_addresses_too() -> None:
    assert str(Site.parse("param:transformer.wpe.weight")) == "param:transformer.wpe.weight"
    assert Site.parse("param:x.y").is_weight
    assert not Site.parse("resid_post@1").is_weight


@dataclass(frozen=True)
class Config:
    keep: float = knob(0.5, label="Keep", help="…", bounds=(0.0, 1.0), main=True)
    layers: tuple[int, ...] | None = knob(None, label="Layers", help="…")
    mode: Literal["a", "b"] = knob("a", label="Mode", help="…")
    n: int = knob(3, label="N", help="…", bounds=(1, 9))
    on: bool = knob(False, label="On", help="…")


def test_texts_of_the_command_line_become_typed_values() -> None:
    made = configured(Config, {"keep": "0.25", "layers": "2,3", "mode": "b", "n": "4", "on": "true"})
    assert made == Config(0.25, (2, 3), "b", 4, True)
    assert configured(Config, {"layers": "none"}, made).layers is None
    assert as_json(made)["layers"] == [2, 3]


@pytest.mark.parametrize(
    "values", [{"keep": "2"}, {"keep": "x"}, {"mode": "c"}, {"n": "1.5"}, {"n": True}, {"on": "perhaps"}, {"layers": "2,x"}]
)
def test_bad_values_are_refused_with_what_is_wanted(values: dict[str, object]) -> None:
    with pytest.raises(BadKnob) as told:
        configured(Config, values)
    assert told.value.hint.startswith(("Give", "Choose"))


def test_an_unknown_knob_names_the_nearest() -> None:
    with pytest.raises(UnknownKnob) as told:
        configured(Config, {"kep": 1})
    assert "keep" in told.value.hint


def test_knobs_carry_what_a_form_needs() -> None:
    by_name = {item.name: item for item in knobs(Config)}
    assert by_name["mode"].choices == ("a", "b")
    assert by_name["layers"].kind == "ints"
    assert by_name["layers"].optional
    assert by_name["keep"].main


def test_progress_never_goes_back_and_cancel_stops_the_next_call() -> None:
    told: list[Report] = []
    progress = Progress(told.append)
    progress(0.5, "half")
    progress(0.2, "later", loss=1.0)
    assert [report.share for report in told] == [0.5, 0.5]
    assert told[1].live == {"loss": 1.0}
    part = progress.part(0.5, 1.0)
    part(0.5, "three quarters")
    assert told[-1].share == 0.75
    progress.cancel()
    with pytest.raises(Cancelled):
        part(0.6, "too late")


def test_demonstrations_select_and_say_what_is_missing() -> None:
    rows = Demonstrations((Demonstration("a", " b", tags=("task:x",)), Demonstration("c", split="test", id="r2")))
    assert len(rows.split("test")) == 1
    assert rows[0].tagged("task") == "x"
    assert rows.fingerprint == Demonstrations(rows.rows, "other name").fingerprint
    assert rows.fingerprint != Demonstrations(rows.rows[::-1]).fingerprint
    with pytest.raises(NotEnoughData, match="1 of 2 demonstrations have no positive"):
        rows.column("positive")
    with pytest.raises(NotEnoughData, match="at least 3"):
        rows.require(3)


def test_a_name_where_nothing_is_known_yet_is_refused_in_whole_sentences() -> None:
    from workbench.errors import UnknownName

    error = UnknownName("edit", "gone", ())
    assert str(error) == "No edit 'gone'. Known: none." and error.hint == "There is no edit yet."
    assert str(UnknownName("edit", "gone", ["a"])) == "No edit 'gone'. Known: a."
