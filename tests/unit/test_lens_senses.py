"""The sense explorer's identities. Ref: docs/methods/senses.md §2.3, §2.4."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import words
from workbench.edits.engine import applied
from workbench.errors import Obstructed
from workbench.figures.senses import balls, before_after, contribution_map, moved_senses, reading_heatmap, shared_direction
from workbench.lenses.senses import sense_reading, senses, taught_example
from workbench.methods.shared.sense_edit import scaled_senses

SINGLE = 1e-4  # float32 sums of a few dozen terms of size 10


def test_contributions_add_up_to_the_targets_logit_with_and_without_an_edit(tiny_backpack_model: Any) -> None:
    model = tiny_backpack_model
    edit = scaled_senses(model, {(12, 1): 0.0, (14, 2): 2.0})
    found = sense_reading(model, words(12, 13, 14), [(), (edit,)], targets=(" w7",))
    for lane, stack in enumerate([(), (edit,)]):
        with torch.no_grad(), applied(model, *stack):
            logits = model.logits(model.tokens(words(12, 13, 14)))[0, -1]
        assert found.contributions[lane].sum() == pytest.approx(logits[7].item(), abs=SINGLE)
        assert found.target_probability[lane] == pytest.approx(logits.softmax(-1)[7].item(), abs=SINGLE)
    assert abs(found.contributions[0].sum() - found.contributions[1].sum()) > 1e-3  # negative control
    assert np.array_equal(found.weights[0], found.weights[1])  # no edit of senses moves a weight
    assert len(found.rows()) == 12 and found.tokens == ("w12", "w13", "w14")


def test_a_sense_promotes_the_tokens_whose_embeddings_it_points_to(tiny_backpack_model: Any) -> None:
    model = tiny_backpack_model
    found = senses(model, "w12", top_k=3)
    scores = model.senses(torch.tensor([12]))[0] @ model.embedding[:100].T
    assert found.token == 12 and len(found.promotes) == 4
    for sense in range(4):
        assert found.promotes[sense][0] == f"w{int(scores[sense].argmax())}" or int(scores[sense].argmax()) == 99
        assert found.demotes[sense][0] == f"w{int(scores[sense].argmin())}" or int(scores[sense].argmin()) == 99
    assert np.allclose(np.diag(found.likeness), 1.0, atol=1e-5) and len(found.rows()) == 4


def test_what_senses_share_is_told_from_what_each_says_beyond_it(tiny_backpack_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, token = tiny_backpack_model, 12
    vocabulary = model.embedding[: model.n_tokens].double()
    unit = vocabulary / vocabulary.norm(dim=1, keepdim=True)
    # Three senses say the word loudly, and each a word of its own; the fourth pushes the word away.
    own = [30, 40, 50, 60]
    table = torch.stack([(9.0 if i < 3 else -9.0) * unit[token] + unit[at] for i, at in enumerate(own)])
    monkeypatch.setattr(type(model), "senses", lambda self, ids: table[None].float())
    found = senses(model, "w12", top_k=3)
    assert found.says_itself == (0, 1, 2) and found.ranks[3] > 50 and found.shared[0] == "w12"
    assert [tokens[0] for tokens in found.beyond] == [f"w{at}" for at in own]
    assert (found.along[:3] > 0.9).all() and found.along[3] < -0.9 and found.share > 0.9 > found.random_share > 0.25
    # The negative control: what each promotes before the shared direction is taken out is the word alone.
    assert [tokens[0] for tokens in found.promotes[:3]] == ["w12"] * 3
    drawn = shared_direction(found)
    assert "itself" in str(drawn.layout.title.text) and drawn.data[0].y[0].startswith("0  w30")


def test_a_factor_of_one_is_no_edit_and_zero_removes_the_sense(tiny_backpack_model: Any) -> None:
    model, batch = tiny_backpack_model, tiny_backpack_model.tokens([words(12, 13)])
    none = scaled_senses(model, {(12, 0): 1.0})
    assert none.operations() == ()
    with torch.no_grad(), applied(model, scaled_senses(model, {(12, 0): 0.0})):
        got = model.logits(batch)
    table = model.network.senses(batch.ids).clone()
    table[0, 0, 0] = 0
    expected = model.network.unembedded(model.network.mix(model.network.contextualisation(batch.ids), table))
    torch.testing.assert_close(got, expected, atol=SINGLE, rtol=0)


def test_teaching_one_example_raises_its_answer_and_says_which_senses_moved(tiny_backpack_model: Any) -> None:
    asked = [words(7, 12, 8)]
    found = taught_example(tiny_backpack_model, words(12, 5, 6), " w40", asked, method="senses", config={"epochs": 6})
    assert found.after[0] > found.before[0] + 0.2 and len(found.rows()) == 2
    rows = found.report.tables["senses"]
    assert {row["token"] for row in rows} <= {12, 5, 6} and all(row["read"] > 0 for row in rows)
    wrong = found.likeliest_before[0]
    unwanted = taught_example(tiny_backpack_model, words(12, 5, 6), "", asked, method="senses", unwanted=wrong, config={"epochs": 6})
    assert unwanted.after[0] < unwanted.before[0]


def test_a_model_without_senses_is_refused(tiny_gpt2: Any) -> None:
    with pytest.raises(Obstructed, match="no senses"):
        senses(tiny_gpt2, "w1")


def test_every_figure_has_a_title_and_labelled_axes(tiny_backpack_model: Any) -> None:
    reading = sense_reading(tiny_backpack_model, words(12, 13, 14))
    taught = taught_example(tiny_backpack_model, words(12, 5), " w40", method="senses", config={"epochs": 1})
    row = {"method": "senses", "epsilon": 1e-3, "change": 0.2, "standard error": 0.01}
    figures = [
        reading_heatmap(reading, 1), contribution_map(reading), moved_senses(list(taught.report.tables["senses"])),
        before_after(taught.questions, taught.before, taught.after, taught.answer), balls([row]),
    ]  # fmt: skip
    for figure in figures:
        assert figure.layout.title.text and figure.layout.xaxis.title.text
