"""What every registered method says to layers that are not there: the same error, before anything is fitted."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.contract.test_methods import quick, rows_for
from workbench.errors import BadKnob
from workbench.knobs import check_layers, existing_layers, knob, knobs
from workbench.methods import get, names
from workbench.methods.registry import Method
from workbench.models.base import LanguageModel
from workbench.progress import Progress, Report

PLACES = [(name, item.name) for name in names() for item in knobs(get(name).config) if item.names_layers]


@pytest.mark.parametrize("name", names())
def test_a_knob_of_layers_says_so(name: str) -> None:
    called = {item.name for item in knobs(get(name).config) if re.fullmatch(r"(\w+_)?(layers?|blocks?)", item.name)}
    counts = {item.name for item in knobs(get(name).config) if item.name.startswith("n_")}
    assert called - counts == {knob for method, knob in PLACES if method == name}


@pytest.mark.parametrize(("name", "place"), PLACES)
@pytest.mark.parametrize("wrong", ["none", "beyond", "one of two beyond", "below"])
def test_no_layer_and_a_layer_that_is_not_there_are_one_error_of_every_method(
    name: str, place: str, wrong: str, tiny_gpt2: LanguageModel
) -> None:
    method, n = get(name), tiny_gpt2.info.n_layers
    values = {"none": (), "beyond": (n,), "one of two beyond": (0, n + 4), "below": (-1,)}[wrong]
    item = next(item for item in knobs(method.config) if item.name == place)
    if item.kind == "int" and len(values) != 1:
        pytest.skip("one layer is one number")
    config = replace(quick(method), **{place: values if item.kind == "ints" else next(iter(values))})
    told: list[Report] = []
    with pytest.raises(BadKnob) as caught:
        method.fit(tiny_gpt2, rows_for(method), config, progress=Progress(told.append))
    shown = ", ".join(map(str, values)) or "no layer"
    assert str(caught.value) == f"{place} = {shown}; the model has layers 0 to {n - 1}." and "at least one" in caught.value.hint
    assert not told, "nothing was fitted"


def test_layers_that_are_there_are_taken_in_order_and_each_once() -> None:
    assert existing_layers("layers", (2, 0, 2), 3) == (0, 2)


@dataclass(frozen=True)
class Anywhere:
    layers: tuple[int, ...] | None = knob(None, label="Layers", help="…", names_layers=True)
    n_layers: int = knob(9, label="How many", help="…")


def test_a_method_of_somebody_elses_gets_the_check_with_its_knob() -> None:
    for fine in (Anywhere(), Anywhere((0, 2))):
        check_layers(fine, 3)
    with pytest.raises(BadKnob, match="layers = 3; the model has layers 0 to 2"):
        check_layers(Anywhere((3,)), 3)


def test_layers_twice_are_one_edit(tiny_gpt2: LanguageModel) -> None:
    from workbench.edits.base import Edit

    method: Method = get("mean_difference")
    edits: list[Edit] = [method.fit(tiny_gpt2, rows_for(method), method.configure({"layers": at})).edit for at in ((1, 2), (2, 1, 2))]
    ops: list[Any] = [edit.operations() for edit in edits]
    assert [op.site for op in ops[0]] == [op.site for op in ops[1]] and len(ops[1]) == 2
