"""What is written is read back equal: lanes, addresses, knobs, demonstrations. What is no such text is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.data.sources import as_text, read
from workbench.edits.lane import HIGHEST_DOSE, LOWEST_DOSE, Lane, Named, read_lanes, write_lanes
from workbench.errors import BadDose, BadKnob, BadLane, BadSite
from workbench.knobs import Knob, as_json, configured, knobs
from workbench.methods import get, names
from workbench.sites import GLOBAL_ACTIVATIONS, GLOBAL_WEIGHTS, LAYER_ACTIVATIONS, LAYER_WEIGHTS, Site

# Marks of the grammar more often than chance would have them.
marked = st.lists(st.sampled_from(list('+:@,"0.-5e ') + ["base", "nan", "runs/sea"]), min_size=1, max_size=8).map("".join)
doses = st.none() | st.floats(LOWEST_DOSE, HIGHEST_DOSE)
edits = st.builds(Named, (st.text(min_size=1) | marked).filter(str.strip), doses)
lanes = st.lists(edits, max_size=3).map(tuple).map(Lane)


@given(lanes)
def test_a_lane_survives_its_text(lane: Lane) -> None:
    assert Lane.parse(str(lane)) == lane


@given(st.lists(lanes, max_size=4).map(tuple))
def test_lanes_survive_a_link(several: tuple[Lane, ...]) -> None:
    assert read_lanes(write_lanes(several)) == several


@given(st.text() | marked)
def test_any_text_is_a_lane_that_it_stands_for_or_is_refused_by_name(text: str) -> None:
    try:
        lane = Lane.parse(text)
    except (BadLane, BadDose) as error:
        assert error.hint
    else:
        assert Lane.parse(str(lane)) == lane


@given(st.text(min_size=1) | marked)
def test_a_known_name_means_itself_whatever_it_holds(name: str) -> None:
    lane = Lane.parse(name, {name}.__contains__) if name.strip() else None
    assert lane is None or lane == (Lane() if name.strip() == "base" else Lane((Named(name),)))


layered = st.builds(Site, st.sampled_from([*LAYER_ACTIVATIONS, *LAYER_WEIGHTS]), st.integers(0, 10**6))
heads = st.builds(Site, st.just("head_z"), st.integers(0, 999), st.integers(0, 999))
senses = st.builds(Site, st.just("sense"), st.none() | st.integers(0, 99))
whole = st.builds(Site, st.sampled_from([*GLOBAL_ACTIVATIONS, *GLOBAL_WEIGHTS]))
raw = st.builds(lambda name: Site("param", name=name), st.text(min_size=1))


@given(layered | heads | senses | whole | raw)
def test_an_address_survives_its_string_form(site: Site) -> None:
    assert Site.parse(str(site)) == site


@given(st.text())
def test_any_text_is_an_address_that_it_stands_for_or_is_refused_by_name(text: str) -> None:
    try:
        site = Site.parse(text)
    except BadSite as error:
        assert error.hint
    else:
        assert Site.parse(str(site)) == site


def values_of(item: Knob) -> st.SearchStrategy[Any]:
    """Values that a knob allows."""
    low, high = item.bounds or (-1e6, 1e6)
    one: dict[str, st.SearchStrategy[Any]] = {
        "int": st.integers(int(low), int(high)),
        "float": st.floats(low, high),
        "bool": st.booleans(),
        "str": st.text(min_size=1).filter(str.strip).filter(lambda text: text.strip().lower() not in ("none", "auto")),
    }
    one |= {"ints": st.lists(one["int"], min_size=1).map(tuple), "floats": st.lists(one["float"], min_size=1).map(tuple)}
    one |= {"texts": st.lists(one["str"].map(str.strip).filter(lambda text: "," not in text), min_size=1).map(tuple)}
    kind = st.sampled_from(item.choices) if item.choices else one[item.kind]
    return kind | st.none() if item.optional else kind


@pytest.mark.parametrize("name", names())
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_config_survives_its_json(name: str, data: st.DataObject) -> None:
    kind = get(name).config
    drawn = {item.name: data.draw(values_of(item), item.name) for item in knobs(kind)}
    config: Any = configured(kind, drawn)
    assert {knob: getattr(config, knob) for knob in drawn} == drawn
    assert configured(kind, json.loads(json.dumps(as_json(config)))) == config


@pytest.mark.parametrize("name", names())
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_number_out_of_its_bounds_is_refused_by_its_knobs_name(name: str, data: st.DataObject) -> None:
    bounded = [item for item in knobs(get(name).config) if item.bounds is not None and item.kind in ("int", "float")]
    item = data.draw(st.sampled_from(bounded))
    low, high = item.bounds or (0.0, 0.0)
    beyond = data.draw(st.sampled_from([low - 1, high + 1, float("nan"), float("inf")]))
    with pytest.raises(BadKnob, match=item.name):
        configured(get(name).config, {item.name: beyond})


# Texts as files can hold them: no half characters, no NUL (csv cannot write it), not blank (blank is absent).
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1).filter(str.strip)
row = st.builds(
    Demonstration,
    prompt=texts,
    positive=st.none() | texts,
    negative=st.none() | texts,
    neutral=st.none() | texts,
    label=st.none() | texts,
    loss=st.sampled_from([None, "good", "bad"]),
    tags=st.lists(texts, max_size=3).map(tuple),
    split=st.sampled_from(["fit", "validation", "test"]),
    id=st.just("") | texts,
)


def said(row: Demonstration) -> tuple[str, ...]:
    return tuple(text or "" for text in (row.prompt, row.positive, row.negative, row.neutral, row.label, row.loss))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=4, unique_by=said).map(tuple), layout=st.sampled_from([".jsonl", ".csv"]))
def test_demonstrations_survive_a_file(rows: tuple[Demonstration, ...], layout: str) -> None:
    imported = read(as_text(Demonstrations(rows), layout).encode(), name="t" + layout)
    both = {row for row in rows if row.positive is not None and row.negative is not None and row.positive.strip() == row.negative.strip()}
    assert set(imported.set_aside) == both, "equal texts on both sides are set aside, to be taken back"
    assert imported.demonstrations.rows == tuple(row for row in rows if row not in both)
