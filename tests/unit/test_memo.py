"""What candidates of a choice have in common is computed once, and is what it would be computed anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows, taught_rows, words
from tests.made_edits import shift
from workbench import memo, record
from workbench.edits.engine import applied
from workbench.methods import get
from workbench.methods.choice import chosen
from workbench.methods.shared import contrast_rows as contrast
from workbench.methods.shared import gating
from workbench.sites import Site

ROWS = taught_rows(30)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The forwards that collect activations, and the generations of own answers, by name."""
    seen: list[str] = []
    plain, own = record.activations, contrast.generate

    def counted(*args: Any, **options: Any) -> Any:
        seen.append("activations")
        return plain(*args, **options)

    def spoken(*args: Any, **options: Any) -> Any:
        seen.append("answers")
        return own(*args, **options)

    monkeypatch.setattr(record, "activations", counted)
    monkeypatch.setattr(contrast, "generate", spoken)
    return seen


@pytest.mark.parametrize(
    ("method", "over"),
    [
        ("mean_difference", {"layers": ((0,), (1,), (2,)), "strength": (1.0, 4.0)}),
        ("sea", {"layers": ((0,), (1,), (0, 1)), "center": ("demonstrations", "grand")}),
    ],
)
def test_all_candidates_of_a_choice_read_the_activations_and_own_answers_of_one(
    tiny_gpt2: Any, calls: list[str], method: str, over: dict[str, Any]
) -> None:
    def spent(space: dict[str, Any]) -> list[str]:
        calls.clear()
        try:
            chosen(tiny_gpt2, method, ROWS, over=space, doses=(1.0,), max_damage=100.0)
        except Exception as error:
            assert type(error).__name__ == "NoEffect"  # what is counted was spent all the same
        return list(calls)

    one, all_of_them = spent({name: values[:1] for name, values in over.items()}), spent(over)
    # Reports look at held-out rows once more, a candidate; the rows that are fitted on are read once.
    assert all_of_them.count("answers") == one.count("answers") == (method == "sea")
    if method == "mean_difference":
        assert all_of_them.count("activations") == one.count("activations") > 0
    anew = sum(spent({name: (value,) for name, value in zip(over, pair)}).count("activations")
               for pair in [(a, b) for a in next(iter(over.values())) for b in list(over.values())[1]])  # fmt: skip
    assert all_of_them.count("activations") < anew


def test_a_fit_within_a_choice_is_the_fit_alone(tiny_gpt2: Any) -> None:
    for method, knobs in (("mean_difference", {"layers": (1,)}), ("sea", {"layers": (0, 1)})):
        known = get(method)
        alone = known.fit(tiny_gpt2, contrast_rows(), known.configure(knobs)).edit.tensors()
        with memo.remembering((Site("resid_post", 2),)):
            first, second = (known.fit(tiny_gpt2, contrast_rows(), known.configure(knobs)).edit.tensors() for _ in range(2))
        for name, x in alone.items():
            # one forward goes further up, which changes nothing below it
            assert torch.equal(x, first[name]) and torch.equal(x, second[name])


def test_an_edit_around_the_call_is_not_answered_from_what_is_kept(tiny_gpt2: Any) -> None:
    batch, site = tiny_gpt2.tokens([words(12, 13, 14)]), Site("resid_post", 1)
    with memo.remembering():
        plain = record.gather(tiny_gpt2, batch, [site])[site]
        with applied(tiny_gpt2, shift(tiny_gpt2, layer=0)):
            moved = record.gather(tiny_gpt2, batch, [site])[site]
        again = record.gather(tiny_gpt2, batch, [site])[site]
    assert torch.equal(plain, again) and not torch.equal(plain, moved)


def test_nothing_is_kept_outside_and_no_more_than_fits(tiny_gpt2: Any, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    batch, site = tiny_gpt2.tokens([words(12, 13, 14)]), Site("resid_post", 1)
    for _ in range(2):
        record.gather(tiny_gpt2, batch, [site])
    assert calls.count("activations") == 2
    monkeypatch.setattr(memo, "MEMO_BYTES", 8)
    with memo.remembering():
        for _ in range(2):
            record.gather(tiny_gpt2, batch, [site])
    assert calls.count("activations") == 4
    assert memo.once("a", lambda: 1) == 1 and memo.once("a", lambda: 2) == 2
    with memo.remembering():
        assert memo.once("a", lambda: 1) == 1 and memo.once("a", lambda: 2) == 1


def test_candidates_of_a_choice_share_the_gates_of_their_layers_and_those_are_what_they_would_be_alone(
    tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes, plain = list[int](), gating.logistic_probe
    monkeypatch.setattr(gating, "logistic_probe", lambda *sides: (probes.append(1), plain(*sides))[1])

    def fit(layer: int, kind: str, strength: float) -> Any:
        known = get("mean_difference")
        return known.fit(tiny_gpt2, ROWS, known.configure({"layers": (layer,), "gate": kind, "strength": strength}))

    alone = [fit(1, "hard", strength) for strength in (1.0, 3.0)]
    assert len(probes) == 2
    with memo.remembering():
        shared = [fit(1, "hard", strength) for strength in (1.0, 3.0)]
        assert len(probes) == 3
        other = [fit(0, "hard", 1.0), fit(1, "soft", 1.0)]  # another layer and another kind are gates of their own
        assert len(probes) == 5 and [one.edit.id for one in other] != [one.edit.id for one in shared]
    assert [one.edit.id for one in shared] == [one.edit.id for one in alone]
    assert shared[1].report.scalars == alone[1].report.scalars
