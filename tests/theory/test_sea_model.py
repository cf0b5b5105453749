"""SEA on live models: identity, locality, causality, folding, refusals, tell-tale failures (docs/methods/sea.md §6)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import build_folder, contrast_rows, words
from workbench import methods
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.decode import Sampling, generate
from workbench.edits.engine import applied
from workbench.errors import BadKnob, FitFailed, UnsupportedExport
from workbench.methods.sea.config import SeaConfig, listed_layers
from workbench.methods.shared.contrast_rows import settled_period, with_period
from workbench.models.catalog import load
from workbench.record import activations
from workbench.sites import Site

SEA = methods.get("sea")
ROWS = contrast_rows()


def fitted(model: Any, preset: str = "centred", **values: Any) -> methods.Fitted:
    return SEA.fit(model, ROWS, SEA.configure({"max_new_tokens": 4, **values}, preset))


def test_good_and_bad_answers_alike_give_the_identity(tiny_gpt2: Any) -> None:
    same = ROWS.with_rows(dataclasses.replace(row, negative=row.positive) for row in ROWS)
    batch = tiny_gpt2.tokens([row.prompt for row in ROWS][:4])
    base = tiny_gpt2.logits(batch)
    with applied(tiny_gpt2, SEA.fit(tiny_gpt2, same, SEA.configure({"max_new_tokens": 4})).edit):
        assert torch.allclose(tiny_gpt2.logits(batch), base, atol=1e-4)  # float32 rounding of A Aᵀ − B Bᵀ
    with applied(tiny_gpt2, fitted(tiny_gpt2).edit):
        assert not torch.allclose(tiny_gpt2.logits(batch), base, atol=1e-2)


def test_below_the_edited_layer_everything_is_bit_equal(tiny: Any) -> None:
    edit = fitted(tiny, edit_site="mlp_out", center="none", layers=(1,)).edit
    batch, below, at = tiny.tokens([words(11, 12, 13)]), Site("resid_pre", 1), Site("mlp_out", 1)
    base = activations(tiny, batch, [below, at])
    with applied(tiny, edit):
        found = activations(tiny, batch, [below, at])
    assert torch.equal(found[below], base[below])
    assert not torch.allclose(found[at], base[at], atol=1e-4)


def test_cached_decoding_equals_full_forwards_and_batching_equals_one_by_one(tiny: Any) -> None:
    edit, prompts = fitted(tiny).edit, [words(11, 12, 13), words(20, 21), words(30)]
    (together,) = generate(tiny, prompts, [(edit,)], Sampling(max_new_tokens=6))
    for prompt, answer in zip(prompts, together):
        (alone,) = generate(tiny, [prompt], [(edit,)], Sampling(max_new_tokens=6))
        assert alone[0].ids == answer.ids
        ids = tiny.tokens([prompt], [" " + answer.text])
        with applied(tiny, edit):
            logits = tiny.logits(ids)
        expected = torch.tensor(answer.log_probs)
        picked = logits[0, -len(answer.ids) - 1 : -1].log_softmax(-1).gather(-1, torch.tensor(answer.ids)[:, None])[:, 0]
        if len(answer.ids) == int(ids.lengths[0] - ids.n_prompt[0]):  # the words round-trip through the tokenizer
            assert torch.allclose(picked, expected, atol=1e-3)


def test_the_released_norm_is_not_causal_and_ours_is(tiny_gpt2: Any) -> None:
    short, long = tiny_gpt2.tokens([words(11, 12, 13)]), tiny_gpt2.tokens([words(11, 12, 13, 70, 71)])
    for norm, causal in (("token", True), ("feature", False)):
        with applied(tiny_gpt2, fitted(tiny_gpt2, norm=norm).edit):
            first, second = tiny_gpt2.logits(short), tiny_gpt2.logits(long)
        n = int(short.lengths[0])
        assert torch.allclose(first[0], second[0, :n], atol=1e-4) == causal


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama"])
@pytest.mark.parametrize("values", [{"norm": "none"}, {"merge": "average"}, {"norm": "none", "merge": "positive"}])
@pytest.mark.parametrize("dose", [1.0, 0.4])
def test_linear_edits_fold_into_weights_exactly(tiny_models: dict[str, Any], family: str, values: dict[str, str], dose: float) -> None:
    model = tiny_models[family]
    edit = fitted(model, "linear", center="none", **values).edit.scaled(dose)
    batch = model.tokens([words(11, 12, 13), words(20, 21)])
    base, old = model.logits(batch), {}
    with applied(model, edit):
        hooked = model.logits(batch)
    try:
        for op in edit.folded(model):
            slot = model.weight(op.site)
            old[op.site] = slot.parameter.detach().clone()
            delta = op.delta if isinstance(op.delta, torch.Tensor) else op.delta.dense()
            slot.parameter.data += (delta.T if slot.is_transposed else delta).to(slot.parameter.dtype)
        folded = model.logits(batch)
    finally:
        for site, value in old.items():
            model.weight(site).parameter.data.copy_(value)
    assert torch.allclose(folded, hooked, atol=2e-5)  # float32, one matrix product against two
    assert not torch.allclose(folded, base, atol=1e-3)
    assert torch.equal(model.logits(batch), base)


def test_centred_linear_edits_fold_where_a_bias_exists_and_are_refused_where_not(tiny_models: dict[str, Any]) -> None:
    assert fitted(tiny_models["gpt2"], "linear").edit.folded(tiny_models["gpt2"])
    edit = fitted(tiny_models["llama"], "linear").edit
    with pytest.raises(UnsupportedExport, match="bias"):
        edit.folded(tiny_models["llama"])
    assert type(edit.exports()["checkpoint"]).__name__ == "Refused"


@pytest.mark.parametrize("preset", ["centred", "paper", "phi-elu"])
def test_edits_that_restore_norms_do_not_fold(tiny_gpt2: Any, preset: str) -> None:
    edit = fitted(tiny_gpt2, preset).edit
    with pytest.raises(UnsupportedExport, match="cannot be folded"):
        edit.folded(tiny_gpt2)
    assert type(edit.exports()["script"]).__name__ == "Possible"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"edit_site": "mlp_out"}, "center = none"),
        ({"phi": "tanh"}, "center = none"),
        ({"layers": (7,)}, "Choose layers"),
    ],
)
def test_knobs_that_do_not_go_together_are_refused_and_the_advice_works(tiny_gpt2: Any, values: dict[str, Any], word: str) -> None:
    with pytest.raises(BadKnob) as caught:
        fitted(tiny_gpt2, **values)
    assert word in caught.value.hint
    mended = {**values, "center": "none"} if "layers" not in values else {"layers": (2,)}
    assert fitted(tiny_gpt2, **mended).edit.layers


@pytest.mark.parametrize(("n", "middle", "last"), [(6, (3, 4), 4), (12, (6, 7), 8), (32, (16, 17, 18), 21), (2, (0, 1), 2), (1, (0,), 1)])
def test_layer_modes_follow_the_rule_of_the_spec(tiny_gpt2: Any, n: int, middle: tuple[int, ...], last: int) -> None:
    info = dataclasses.replace(tiny_gpt2.info, n_layers=n)
    assert listed_layers(SeaConfig(), info) == middle
    assert listed_layers(SeaConfig(layer_mode="last"), info) == tuple(range(n - last, n))
    assert listed_layers(SeaConfig(layer_mode="first", n_layers=1), info) == (0,)
    assert listed_layers(SeaConfig(layer_mode="all"), info) == tuple(range(n))


def test_the_signature_mode_takes_the_layers_of_the_largest_means(tiny_gpt2: Any) -> None:
    everything = fitted(tiny_gpt2, layer_mode="all").report.arrays["signature"]
    best = fitted(tiny_gpt2, layer_mode="signature", n_layers=1).edit.layers
    assert best == (int(np.argmax(everything)),)


def test_a_number_of_directions_overrides_the_share(tiny_gpt2: Any) -> None:
    report = fitted(tiny_gpt2, k_plus=2, k_minus=1).report
    assert set(report.arrays["k_plus"]) == {2} and set(report.arrays["k_minus"]) == {1}
    assert set(fitted(tiny_gpt2).report.arrays["k_plus"]) != {2}


def test_a_dominating_mean_is_named_and_centring_removes_the_warning(tiny_gpt2: Any) -> None:
    weight = tiny_gpt2.network.transformer.wpe.weight
    was = weight.detach().clone()
    try:
        weight.data[:, 3] += 60.0  # one outlier coordinate, as trained models have
        report = fitted(tiny_gpt2, "paper").report
        centred = fitted(tiny_gpt2).report
    finally:
        weight.data.copy_(was)
    assert any("k = 1 on both sides" in notice.text and "center" in notice.hint and "mean" in notice.why for notice in report.notices)
    assert any("near the identity" in notice.text for notice in report.notices)
    assert float(report.arrays["mean_share_plus"].min()) > 0.9
    assert not any("k = 1 on both sides" in notice.text for notice in centred.notices)
    assert int(centred.arrays["k_plus"].min()) > 1


def test_subspaces_that_are_mostly_the_same_are_named(tiny_gpt2: Any) -> None:
    alike = ROWS.with_rows(dataclasses.replace(row, negative=f"{row.positive} w1", positive=f"{row.positive} w2") for row in ROWS)
    report = SEA.fit(tiny_gpt2, alike, SEA.configure({"max_new_tokens": 4, "keep": 0.9999})).report
    k, net = report.arrays["k_plus"], report.arrays["net_size"]
    assert float((net**2 / 2 / k).min()) < 0.2 and any("mostly the same" in notice.text for notice in report.notices)
    other = fitted(tiny_gpt2, k_plus=1, k_minus=1, layers=(int(report.arrays["layers"][0]),)).report
    assert float((other.arrays["net_size"] ** 2 / 2).min()) > 0.2
    assert not any("mostly the same" in notice.text for notice in other.notices)


def test_lengths_that_separate_the_classes_are_named(tiny_gpt2: Any) -> None:
    for side, said in (("positive", "good"), ("negative", "bad")):
        longer = ROWS.with_rows(dataclasses.replace(row, **{side: f"{getattr(row, side)} w1 w2 w3"}) for row in ROWS)
        notices = SEA.fit(tiny_gpt2, longer, SEA.configure({"max_new_tokens": 4})).report.notices
        assert any(f"Length separates the classes: the {said} answer" in one.text and "in 100% of cases" in one.text for one in notices)
    assert not any("Length separates" in notice.text for notice in fitted(tiny_gpt2).report.notices)


def test_activations_that_do_not_vary_fail_by_name(tiny_gpt2: Any) -> None:
    one = ROWS.split("fit")[0]
    same = Demonstrations(tuple(dataclasses.replace(one, id=str(i)) for i in range(6)))
    with pytest.raises(FitFailed, match="cross-covariance"):
        SEA.fit(tiny_gpt2, same, SEA.configure({"max_new_tokens": 2}))


@pytest.mark.parametrize(
    ("period", "good", "bad"),
    [("keep", "red", "blue."), ("strip", "red", "blue"), ("force", "red.", "blue."), ("force_negative", "red", "blue.")],
)
def test_final_periods(period: Any, good: str, bad: str) -> None:
    assert with_period("red", period, negative=False) == good
    assert with_period("blue.", period, negative=True) == bad
    assert with_period("Really?", "force", negative=True) == "Really?"


@pytest.mark.parametrize(("bad", "meant"), [("blue", "keep"), ("blue.", "force")])
def test_a_full_stop_is_forced_only_where_the_sides_end_differently(bad: str, meant: str) -> None:
    rows = Demonstrations((Demonstration("Colour?", "red", bad), Demonstration("Tint?", "green", "grey")))
    assert settled_period("match", rows) == meant
    assert settled_period("strip", rows) == "strip"


@pytest.mark.parametrize("collect", ["last", "mean", "random"])
def test_every_way_of_collecting_fits(tiny_gpt2: Any, collect: str) -> None:
    assert fitted(tiny_gpt2, collect=collect).edit.layers == (1, 2)


def test_the_report_holds_what_its_docstring_lists(tiny_gpt2: Any) -> None:
    report = fitted(tiny_gpt2).report
    arrays = report.arrays
    for name in (
        "spectrum_plus",
        "spectrum_minus",
        "cumulative_plus",
        "k_of_keep_plus",
        "cosines",
        "projection_before",
        "projection_after",
    ):
        assert {f"{name}[1]", f"{name}[2]"} <= set(arrays)
    assert arrays["projection_before[1]"].shape == (len(arrays["projection_is_good"]), 2)
    assert not np.allclose(arrays["projection_before[1]"], arrays["projection_after[1]"])
    assert {row["layer"] for row in report.tables["ranks"]} == {1, 2} and report.tables["tokens"]
    assert all(np.isfinite(values.astype(float)).all() for values in arrays.values())


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_precisions_fit_and_apply(tmp_path: Path, dtype: str) -> None:
    model = load(str(build_folder("llama", tmp_path / "m")), dtype=dtype)
    edit = fitted(model).edit
    law = edit.laws[1]  # type: ignore[attr-defined]
    assert law.keep.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    batch = model.tokens([words(11, 12, 13)])
    before = activations(model, batch, ["resid_post@1"])[Site("resid_post", 1)]
    with applied(model, edit):
        after = activations(model, batch, ["resid_post@1"])[Site("resid_post", 1)]
    assert after.dtype == model.dtype
    lengths = [(x.double() - law.centre.double()).norm(dim=-1) for x in (before, after)]
    assert torch.allclose(*lengths, rtol=1e-6 if dtype == "float64" else 2e-2)  # bfloat16: 8 bits of mantissa
    assert not torch.allclose(before.double(), after.double(), rtol=5e-2)
