"""Where is it: the first-order effect is the effect of a small push, planted layers are found, random words are not."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import taught_rows, words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.errors import NotEnoughData
from workbench.lenses.locate import Located, locate
from workbench.methods.shared.places import READINGS
from workbench.methods.shared.reading import FittedAt
from workbench.score import continuation_scores


def test_the_effect_is_that_of_a_small_push_and_equals_what_is_measured(tiny_gpt2: Any) -> None:
    rows, n = taught_rows(40), tiny_gpt2.info.n_layers
    found = locate(tiny_gpt2, rows)
    held = rows.split("validation")
    from workbench.methods import get

    for layer in range(n):
        edit = get("mean_difference").fit(tiny_gpt2, rows, get("mean_difference").configure({"layers": (layer,), "strength": 1.0})).edit

        def margin(*stack: Any) -> float:
            good, bad = (
                continuation_scores(tiny_gpt2, held.column("prompt"), held.column(side), [stack]).mean.double()
                for side in ("positive", "negative")
            )
            return float((good - bad).mean())

        length = float(next(iter(edit.tensors().values())).norm())
        norm = _median_norm(tiny_gpt2, rows, layer)
        small = 1e-3
        slope = (margin(edit.scaled(small)) - margin(edit.scaled(-small))) / (2 * small)  # per unit of the whole difference
        assert found.effect[READINGS.index("last"), layer] == pytest.approx(slope * 0.1 * norm / length, rel=0.03, abs=1e-4)


def _median_norm(model: Any, rows: Any, layer: int) -> float:
    from workbench.record import activations
    from workbench.sites import Site

    fit, parts = rows.split("fit"), []
    for side in ("positive", "negative"):
        batch = model.tokens(fit.column("prompt"), fit.column(side))
        for start in range(0, len(batch), 8):
            part = batch.rows(slice(start, start + 8)).trimmed()
            with torch.no_grad():
                x = activations(model, part, [Site("resid_post", layer)])[Site("resid_post", layer)]
            parts.append(x.norm(dim=-1)[part.mask].median())
    return float(torch.stack(parts).median())


def test_what_differs_is_found_and_what_does_not_is_not(tiny_gpt2: Any) -> None:
    found = locate(tiny_gpt2, taught_rows(60))
    assert found.is_found and found.auc.max() > 0.9 and "Start at layer" in found.says
    layer, reading = found.best
    assert found.effect[READINGS.index(reading), layer] == found.effect.max()
    same = taught_rows(60)
    draw = np.random.default_rng(0)
    same = same.with_rows(
        [dataclasses.replace(row, positive=row.negative, negative=row.positive) if draw.random() < 0.5 else row for row in same]
    )
    none = locate(tiny_gpt2, same)
    assert not none.is_found and none.says.startswith("No effect found")
    assert len(found.rows()) == len(READINGS) * tiny_gpt2.info.n_layers


def test_two_prompt_sets_have_an_auc_and_no_margin(tiny: Any) -> None:
    rows = [
        Demonstration(words(20 + i, 3 + 49 * (label != "target")), label=label, split="validation" if i % 3 == 0 else "fit")
        for i in range(36)
        for label in ("target", "anti_target")
    ]
    found = locate(tiny, Demonstrations(tuple(rows), "two sets"))
    assert np.isnan(found.effect).all() and found.auc.max() > 0.8
    assert np.isnan(found.agreement).all() and "The pairs" not in found.says
    with pytest.raises(NotEnoughData, match="2 are needed"):
        locate(tiny, Demonstrations(tuple(rows[:2]), "one"))


def test_the_best_has_to_be_beyond_random_directions() -> None:
    auc, effect = np.array([[0.5, 0.9], [0.8, 0.7]]), np.array([[9.0, 0.1], [0.3, 0.2]])
    found = Located(
        "m",
        "d",
        (0, 1),
        READINGS,
        auc,
        auc - 0.05,
        effect,
        (0.4, 0.6),
        (-0.1, 0.15),
        8,
        8,
        np.full((2, 2), 0.3),
        0.2,
        np.full((2, 2), np.nan),
        0.1,
    )
    assert found.best == (0, "mean") and found.is_found and "expect one direction to serve most rows" in found.says
    assert found.says.startswith(
        "Start at layer 0, read from the mean over the answer: there a direction tells both sides apart. The pairs"
    )
    assert found.detail == (
        "Layer 0, the mean over the answer, 8 held-out rows: AUC 0.80, at least 0.75 (random directions up to 0.60); a small push moves "
        "the margin by +0.3 nats a token (random: 0.15); mean cosine of the pairs with it +0.3 (random: 0.2)."
    )
    assert "nothing is said of refusals" in found.says
    for cosine, says in (
        (0.3, "expect more refusals"),
        (-0.3, "expect fewer refusals"),
        (0.05, "no more along the direction of harmful requests than random"),
    ):
        told = dataclasses.replace(found, refusal=np.full((2, 2), cosine))
        assert says in told.says and f"cosine with the direction of harmful requests {cosine:+.3g} (random: 0.1)" in told.detail
    split = dataclasses.replace(found, agreement=np.full((2, 2), 0.1))
    assert "expect one direction to help some rows and harm others" in split.says and "pairs with it +0.1 (random: 0.2)" in split.detail
    # What to expect of a method at its own layers: of several that layer which tells most.
    says, detail = found.foretold("Mean difference", FittedAt((1,), None))
    assert says.startswith("Mean difference is fitted at layer 1: there a direction tells both sides apart. The pairs point")
    assert detail.startswith("Layer 1, the last token, 8 held-out rows: AUC 0.90")
    assert found.foretold("SEA", FittedAt((0, 1), None))[0].startswith(
        "SEA is fitted at layers 0 and 1; what tells most is layer 1: there a direction"
    )
    weak = dataclasses.replace(found, auc_low=np.full((2, 2), 0.49)).foretold("SEA", FittedAt((0,), None))
    assert weak[0] == "SEA is fitted at layer 0: there no direction tells both sides apart beyond chance, so expect little of it."
    assert found.foretold("HPR", FittedAt((), "mean")) == ("HPR looks for its own layers while it fits.", "")
    assert found.foretold("LoRA", None) == ("", ""), "it is fitted at no layers of the stream"
    # The other reading tells more there; a fit that does not use it gains nothing by that.
    assert found.foretold("SEA", FittedAt((1,), "mean"))[1].startswith("Layer 1, the mean over the answer")
    none = dataclasses.replace(found, auc_low=np.full((2, 2), 0.5))
    assert none.detail == "" and none.says.startswith("No effect found")


def test_pairs_agree_as_their_definition_says_and_coin_flipped_pairs_do_not(tiny_gpt2: Any) -> None:
    found, rows = locate(tiny_gpt2, taught_rows(60)), taught_rows(60)
    from workbench.record import activations
    from workbench.sites import Site

    site, differences = Site("resid_post", 1), {}
    for split in ("fit", "validation"):
        part = rows.split(split)
        sides = [
            torch.stack([activations(tiny_gpt2, model_ids, [site])[site][0, -1] for model_ids in _each(tiny_gpt2, part, side)])
            for side in ("positive", "negative")
        ]
        differences[split] = (sides[0] - sides[1]).double()
    direction = differences["fit"].mean(0)
    told = torch.cosine_similarity(differences["validation"], direction[None], dim=-1).mean()
    at = READINGS.index("last"), 1
    assert found.agreement[at] == pytest.approx(float(told), abs=1e-4)
    assert found.agreement[at] > found.agreement_beyond > 0
    draw = np.random.default_rng(1)
    flipped = rows.with_rows(
        [dataclasses.replace(row, positive=row.negative, negative=row.positive) if draw.random() < 0.5 else row for row in rows]
    )
    assert locate(tiny_gpt2, flipped).agreement[at] < found.agreement[at] / 2


def _each(model: Any, rows: Any, side: str) -> list[Any]:
    return [model.tokens([row.prompt], [getattr(row, side)]) for row in rows]


def test_a_direction_towards_harmful_requests_is_said_to_touch_refusals_and_its_opposite_too() -> None:
    from workbench.data.damage import requests
    from workbench.models.catalog import load

    model = load("embedded")
    sides = dict(zip(("target", "anti_target"), requests(chat=False), strict=True))
    rows = [
        Demonstration(prompt, label=label, split="validation" if i % 3 == 0 else "fit")
        for label, asked in sides.items()
        for i, prompt in enumerate(asked)
    ]
    found = locate(model, Demonstrations(tuple(rows), "requests"))
    assert found.refusal[0, 1] > 0.8 > found.refusal_beyond and "expect more refusals" in found.says
    other = {"target": "anti_target", "anti_target": "target"}
    turned = [dataclasses.replace(row, label=other[row.label or ""]) for row in rows]
    back = locate(model, Demonstrations(tuple(turned), "turned"))
    assert back.refusal[0, 1] == pytest.approx(-found.refusal[0, 1], abs=1e-9) and "expect fewer refusals" in back.says
    # The last layers of this small model do not tell held-out requests apart: nothing is said there.
    assert np.isnan(found.refusal[:, -1]).all()


def test_as_many_harmful_requests_ship_as_safe_ones_and_none_twice() -> None:
    from workbench.data.damage import requests

    for chat in (False, True):
        harmful, safe = requests(chat=chat)
        assert len(harmful) == len(safe) == len(set(map(str, (*harmful, *safe)))) / 2
