"""One meaning of each operation, whoever carries it out: positions, gates and bounds of a transform, and a delta in all its forms."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import words
from tests.made_edits import CLOSE, MadeEdit, batch_of, draw, logits, made, shift, under
from tests.operations import edit_of
from workbench.decode import Sampling, generate
from workbench.edits import fresh_load
from workbench.edits.engine import applied, lanes
from workbench.edits.export import export
from workbench.edits.placebo import rotated
from workbench.errors import CorruptEdit, NewerSchema, UnknownName, UnknownSite, UnsupportedExport
from workbench.lenses.bridged import run
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.operations import (
    AddToWeight,
    Forward,
    Gate,
    LowRank,
    Rows,
    TransformAt,
    add_delta,
    own_part,
    position_rule,
    rule_of,
    term,
    transformed,
    with_term,
)
from workbench.sites import Site

LOUD = 13  # the id of w13, whose embedding is made a hundred times as large
SITE = Site("resid_post", 1)


def forward(n: int = 5, n_prompt: int = 3) -> Forward:
    return TokenBatch.of([list(range(n))], [n_prompt]).forward()


# ── a delta, and the weight that it changes ─────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("form", ["dense", "low rank", "vector"])
def test_the_term_of_a_delta_is_what_the_changed_weight_adds(form: str, fused: bool, transposed: bool) -> None:
    columns = torch.tensor([5, 1, 2]) if fused else None
    delta: Any = {
        "dense": draw(3, 4).double(),
        "low rank": LowRank(draw(2, 4).double(), draw(3, 2).double(), 1.5),
        "vector": draw(3).double(),
    }[form]
    n_out = 7 if fused else 3
    stored = torch.zeros(n_out, dtype=torch.float64) if form == "vector" else torch.zeros(n_out, 4, dtype=torch.float64)
    stored = stored.T.contiguous() if transposed and form != "vector" else stored
    add_delta(stored, delta, transposed=transposed and form != "vector", columns=columns)
    x, y = draw(2, 5, 4, seed=3).double(), draw(2, 5, n_out, seed=4).double()
    whole = stored.T if transposed and form != "vector" else stored
    wanted = y + (whole if form == "vector" else x @ whole.T)
    torch.testing.assert_close(with_term(y, term(delta, x), columns), wanted, atol=1e-14, rtol=0)
    own = own_part(stored, transposed=transposed, columns=columns)
    torch.testing.assert_close(own, delta.dense() if form == "low rank" else delta, atol=1e-14, rtol=0)
    untouched = torch.ones(n_out, dtype=torch.bool)
    untouched[torch.arange(3) if columns is None else columns] = False
    assert whole[untouched].abs().sum() == 0


def test_rows_of_a_table_add_what_their_tokens_look_up() -> None:
    rows, table = Rows(torch.tensor([4, 2]), draw(2, 3)), torch.zeros(6, 3)
    add_delta(table, rows)
    ids = torch.tensor([[0, 2, 4, 2]])
    assert torch.equal(term(rows, ids), table[ids]) and term(rows, ids)[0, 0].abs().sum() == 0


# ── where a transform acts ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_rules_of_positions_read_what_is_known_of_a_forward() -> None:
    names = ("all", "prompt", "generated", "last", "first 1", "first 4")
    masks = {name: rule(forward())[0].tolist() for name in names if (rule := rule_of(name)) is not None}
    assert masks == {
        "first 1": [False, False, True, False, False],
        "first 4": [False, False, True, True, True],
        "all": [True] * 5,
        "prompt": [True, True, True, False, False],
        "generated": [False, False, True, True, True],
        "last": [False, False, False, False, True],
    }
    with pytest.raises(ValueError, match="'prompt' is taken"):
        position_rule("prompt")(lambda forward: forward.real)


def test_a_gate_a_bound_and_a_rule_each_leave_x_bit_equal_where_they_close() -> None:
    x = draw(1, 5, 4)
    x[0, :, 0] = torch.tensor([1.0, 2, -1, 3, -4])
    x[0, 1] *= 100
    gate = Gate(torch.tensor([1.0, 0, 0, 0]), torch.tensor(0.0))
    op = TransformAt(SITE, lambda x: x + torch.nan, 4, "prompt", gate, spare=50.0)
    closed = {"gate": x[0, :, 0] <= 0, "spare": x[0].norm(dim=-1) > 50, "where": torch.tensor([False] * 3 + [True] * 2)}
    y = transformed(op, x, forward())
    shut = torch.stack(list(closed.values())).any(0)
    assert torch.equal(y[0, shut], x[0, shut]) and y[0, ~shut].isnan().all() and shut.tolist() == [False, True, True, True, True]
    for name, mask in closed.items():
        off: dict[str, Any] = {"gate": None, "spare": None, "where": "all"}
        alone = transformed(replace(op, **{**off, name: getattr(op, name)}), x, forward())
        assert torch.equal(alone[0].isnan().all(-1), ~mask), name


def test_columns_are_all_that_a_transform_of_a_head_sees_and_changes() -> None:
    seen: list[Tensor] = []
    op = TransformAt(Site("head_z", 0, 1), lambda x: seen.append(x) or 2 * x, 2, spare=1e9)
    x = draw(1, 3, 6)
    y = transformed(op, x, None, slice(2, 4))
    assert torch.equal(seen[0], x[..., 2:4]) and torch.equal(y[..., 2:4], 2 * x[..., 2:4])
    assert torch.equal(y[..., :2], x[..., :2]) and torch.equal(y[..., 4:], x[..., 4:])


def test_a_rule_of_a_method_holds_in_engine_bridge_and_script(tiny_gpt2: Any, tmp_path: Path) -> None:
    importlib.import_module("workbench.methods.hpr.edit")  # registers `released`
    edit = shift(tiny_gpt2, where="released")
    asked = tiny_gpt2.tokens(words(3, 7, 12, 5))
    scored = tiny_gpt2.tokens(words(3, 7), " w12 w5")
    base, wanted = logits(tiny_gpt2, asked), under(tiny_gpt2, edit, batch=asked)
    assert torch.equal(wanted[:, :-1], base[:, :-1]) and not torch.equal(wanted[:, -1], base[:, -1])
    everywhere = under(tiny_gpt2, shift(tiny_gpt2), batch=scored)
    assert torch.equal(under(tiny_gpt2, edit, batch=scored), everywhere)
    torch.testing.assert_close(run(tiny_gpt2, asked, [edit])[0], wanted, atol=CLOSE, rtol=1e-4)
    export(tiny_gpt2, edit, "script", tmp_path / "out", fresh_process=False)
    assert 'position_rule("released")' in (tmp_path / "out" / "edit.py").read_text()
    nowhere = made(tiny_gpt2, lambda dose: (TransformAt(SITE, lambda x: x, 32, "nowhere"),))
    with pytest.raises(UnknownName, match="No position rule 'nowhere'"), applied(tiny_gpt2, nowhere):
        pass


# ── tokens of great norm are spared ─────────────────────────────────────────────────────────────────────────────────────────────────────
def loud(model: LanguageModel) -> tuple[MadeEdit, MadeEdit, float]:
    """An edit that makes one word a hundred times as loud, a shift at SITE, and a bound between the word's norm there and the others'."""
    row = model.weight("w_e").parameter[[LOUD]].detach()
    louder = made(model, lambda dose: (AddToWeight(Site("w_e"), Rows(torch.tensor([LOUD]), 99 * row)),))
    norms = at_site(model, model.tokens(words(12, LOUD, 14, 15)), louder)[0].norm(dim=-1).sort().values
    assert norms[3] > 5 * norms[2]
    return louder, shift(model), float((norms[2] * norms[3]).sqrt())


def at_site(model: LanguageModel, batch: TokenBatch, *edits: Any) -> Tensor:
    seen: list[Tensor] = []
    with torch.no_grad(), applied(model, *edits), model.intercept(SITE, lambda x: seen.append(x.clone())):
        model.logits(batch)
    return seen[0]


def test_a_token_of_great_norm_stays_bit_equal_and_the_others_move(tiny: LanguageModel) -> None:
    louder, moving, bound = loud(tiny)
    batch = tiny.tokens(words(12, LOUD, 14, 15))
    plain, spared, not_spared = (at_site(tiny, batch, louder, *edits) for edits in ((), (moving.sparing({SITE: bound}),), (moving,)))
    assert torch.equal(spared[0, 1], plain[0, 1]) and not torch.equal(not_spared[0, 1], plain[0, 1])
    others = [0, 2, 3]
    assert torch.equal(spared[0, others], not_spared[0, others]) and not torch.equal(spared[0, others], plain[0, others])


def test_a_spared_token_is_spared_with_a_cache_in_lanes_and_on_the_bridge(tiny: LanguageModel) -> None:
    louder, moving, bound = loud(tiny)
    edit, batch = moving.sparing({SITE: bound}), tiny.tokens([words(12, LOUD, 14, 15), words(20, 12, LOUD, LOUD)])
    wanted, unspared = under(tiny, louder, edit, batch=batch), under(tiny, louder, moving, batch=batch)
    assert not torch.allclose(wanted, unspared, atol=1e-3)
    with torch.no_grad(), applied(tiny, louder, edit):
        short = TokenBatch(batch.ids[:, :-1], batch.mask[:, :-1], batch.n_prompt)
        _, cache = tiny.step(short, tiny.new_cache(), 0)
        last, _ = tiny.step(batch, cache, batch.ids.shape[1] - 1)
    torch.testing.assert_close(last, wanted[:, -1], atol=CLOSE, rtol=1e-4)
    with lanes(tiny, [(louder, moving), (louder, edit)]):
        both = logits(tiny, batch.repeat(2))
    torch.testing.assert_close(both, torch.cat([unspared, wanted]), atol=CLOSE, rtol=1e-4)
    torch.testing.assert_close(run(tiny, batch, [louder, edit])[0], wanted, atol=CLOSE, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "gemma"])
def test_a_script_spares_as_the_engine_does(family: str, tiny_models: Any, tmp_path: Path) -> None:
    import transformers

    model = tiny_models[family]
    louder, moving, bound = loud(model)
    edit, ids = moving.sparing({SITE: bound}), model.tokens(words(12, LOUD, 14, 15)).ids
    wanted, unspared = (under(model, louder, e, batch=TokenBatch.of(ids.tolist(), None)) for e in (edit, moving))
    found: list[Tensor] = []
    for name, one in (("spared", edit), ("all", moving)):
        export(model, [louder, one], "script", tmp_path / name, fresh_process=False)
        network: Any = transformers.AutoModelForCausalLM.from_pretrained(model.info.name).eval()
        fresh_load.script(tmp_path / name / "edit.py").attach(network)
        with torch.no_grad():
            found.append(network(input_ids=ids).logits)
    torch.testing.assert_close(found[0], wanted, atol=CLOSE, rtol=1e-4)
    torch.testing.assert_close(found[1], unspared, atol=CLOSE, rtol=1e-4)
    assert not torch.allclose(wanted, unspared, atol=1e-3)


def test_bounds_are_saved_with_their_edit_counted_in_its_id_and_refused_where_they_mean_nothing(tiny_gpt2: Any, tmp_path: Path) -> None:
    import json

    from tests.conftest import contrast_rows
    from workbench.edits import store
    from workbench.methods import get

    edit = get("mean_difference").fit(tiny_gpt2, contrast_rows()).edit
    site = edit.operations()[0].site
    bounded = edit.scaled(0.5).sparing({site: 4.5})
    again = store.load_edit(store.save(bounded, tmp_path / "edit"))
    assert again.spares == {site: 4.5} and again.dose == 0.5 and again.id == bounded.id != edit.id
    both = (*again.operations(), *rotated(again, 1).operations())
    assert [op.spare for op in both if isinstance(op, TransformAt)] == [4.5, 4.5]
    assert edit.sparing({}).id == edit.id and again.on("cpu").spares == again.spares
    with pytest.raises(UnknownSite, match="resid_post@0"):
        edit.sparing({Site("resid_post", 0): 1.0})
    told = json.loads((tmp_path / "edit" / "edit.json").read_text())
    assert told["schema"] == 4, "an older version would compare a sample of the weights with the hash of all"
    old = replace(edit.header, model=replace(edit.header.model, sampled=""))
    rowless = replace(old, rows=())
    bare = {"plain": replace(edit, header=rowless), "spares": replace(bounded, header=rowless), "rows": replace(bounded, header=old)}
    schemas = {name: json.loads((store.save(one, tmp_path / name) / "edit.json").read_text())["schema"] for name, one in bare.items()}
    assert schemas == {"plain": 1, "spares": 2, "rows": 3}, "an older version has to refuse what it would not spare or leave out"
    for wrong in (-1, "much", float("nan")):
        (tmp_path / "edit" / "edit.json").write_text(json.dumps({**told, "spares": {str(site): wrong}}))
        with pytest.raises(CorruptEdit, match="norm bound at"):
            store.load_edit(tmp_path / "edit")
    (tmp_path / "edit" / "edit.json").write_text(json.dumps({**told, "schema": 6}))
    with pytest.raises(NewerSchema, match="reads up to 5"):
        store.load_edit(tmp_path / "edit")


def test_what_decides_token_by_token_folds_into_no_weights(tiny_gpt2: Any, tmp_path: Path) -> None:
    site = Site("mlp_out", 1)
    plain = edit_of(tiny_gpt2, TransformAt(site, lambda x: 2 * x, 32))
    for edit in (plain.gated({site: Gate(draw(32), torch.tensor(0.0))}), plain.sparing({site: 1.0})):
        for target in ("checkpoint", "peft"):
            with pytest.raises(UnsupportedExport, match="no change of weights equals it"):
                export(tiny_gpt2, edit, target, tmp_path / "out")
        with pytest.raises(UnsupportedExport, match="no change of weights equals it"):
            edit.folded(tiny_gpt2)


def test_no_argument_that_goes_away_is_passed_to_a_network(tiny: LanguageModel) -> None:
    """transformers says at each call which of its arguments will go; the person who only generates a text must not read it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        assert generate(tiny, [words(12, 13)], [()], Sampling(max_new_tokens=2))
        assert run(tiny, batch_of(tiny).rows(slice(0, 1))) is not None
