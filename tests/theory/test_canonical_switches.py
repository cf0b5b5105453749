"""Each switch between our canonical-examples fits and the released ones makes the difference that it names. Ref: docs/methods/senses.md
§5."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.theory.test_canonical_protocol import canonical_rows, run
from workbench.data.demonstrations import Demonstration
from workbench.errors import BadKnob
from workbench.evaluate.protocol.measure import CanonicalTask, EngineMeter, LogitsMeter, SenseMeter, canonical_task
from workbench.evaluate.protocol.rules import Rules, in_ball
from workbench.evaluate.protocol.scores import protocol, winner
from workbench.knobs import as_json, compat_of, configured
from workbench.methods import get
from workbench.methods.canonical.lora import AdapterTrainee, LoraConfig
from workbench.methods.shared.canonical_examples import CanonicalItem
from workbench.models.backpack.model import BackpackModel
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.numerics.canonical_loop import LoopSettings, has_adam8bit, optimiser_of
from workbench.numerics.sense_affine import SenseSelection


def fitted(model: LanguageModel, name: str, **values: Any) -> Any:
    """A short fit of the made facts."""
    method = get(name)
    return method.fit(model, canonical_rows(), method.configure({"epochs": 2, "n_neutral": 3, **values}))


def rules(**values: Any) -> Rules:
    """The protocol's rules, switches of its record by their names."""
    return configured(Rules, values)


def table(model: LanguageModel, **values: Any) -> torch.Tensor:
    """The table of a short sense fit."""
    return fitted(model, "senses", top_k=4, lr=0.2, **values).edit.delta


@pytest.mark.parametrize("name", ["senses", "lora", "finetuning"])
def test_the_preset_official_compat_sets_every_switch_and_a_single_one_overrides_it(name: str) -> None:
    switches = compat_of(get(name).config)
    assert switches is not None
    config = get(name).configure({}, preset="official-compat")
    assert config.compat == switches.official and (config.compat.accumulate, config.compat.optimiser) == ("official", "adam8bit")
    ours = get(name).configure({"compat.accumulate": "fixed", "optimiser": "adam"}, preset="official-compat")
    assert ours.compat == replace(switches.official, accumulate="fixed", optimiser="adam") != switches.official


def test_eight_bit_adam_warns_where_bitsandbytes_is_absent_and_plain_adam_steps_in(tiny_backpack_model: Any) -> None:
    if has_adam8bit():
        pytest.skip("bitsandbytes is installed")
    eight, plain = (fitted(tiny_backpack_model, "senses", lr=0.2, optimiser=kind) for kind in ("adam8bit", "adam"))
    warned = [any("bitsandbytes" in notice.text for notice in fit.report.notices) for fit in (eight, plain)]
    assert warned == [True, False] and torch.equal(eight.edit.delta, plain.edit.delta)


def test_eight_bit_adam_is_used_where_bitsandbytes_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Adam8bit(torch.optim.SGD):
        def __init__(self, parameters: Any, lr: float, betas: Any, eps: float) -> None:
            super().__init__(parameters, lr=lr)

    package, inner = ModuleType("bitsandbytes"), ModuleType("bitsandbytes.optim")
    inner.Adam8bit = Adam8bit  # type: ignore[attr-defined]
    package.__spec__ = SimpleNamespace(name="bitsandbytes")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", inner)
    weights = [torch.zeros(2, requires_grad=True)]
    assert isinstance(optimiser_of(weights, LoopSettings(0.1, optimiser="adam8bit")), Adam8bit)
    assert not isinstance(optimiser_of(weights, LoopSettings(0.1)), Adam8bit)


def test_bfloat16_weights_lose_small_steps_that_single_precision_keeps(tiny_gpt2: Any) -> None:
    base = dict(tiny_gpt2.network.named_parameters())
    moved = {}
    for dtype in ("float32", "bfloat16"):
        edit = fitted(tiny_gpt2, "finetuning", lr=1e-7, master_dtype=dtype).edit
        start = {name: p.to(getattr(torch, dtype)).to(p.dtype) - p for name, p in base.items()}
        changed = [(edit.moves[name] != start[name]).float().flatten() for name, p in base.items() if p.ndim == 2]
        moved[dtype] = float(torch.cat(changed).mean())
    # In bfloat16 a step of 1e-7 is below half a unit in the last place of every weight above 5e-5 (ulp = 2^-8 of the weight).
    assert moved["bfloat16"] < 0.1 < 0.5 < moved["float32"]
    two = [
        AdapterTrainee(tiny_gpt2, configured(LoraConfig, {"rank": 2, "master_dtype": dtype}), 0).parameters[0]
        for dtype in ("float32", "bfloat16")
    ]
    assert [p.dtype for p in two] == [torch.float32, torch.bfloat16] and not torch.equal(two[0], two[1].float())


def test_hard_negatives_are_the_pairs_own_or_those_of_validation_or_both(tiny_backpack_model: Any) -> None:
    sizes, prompts = {}, {}
    for which in ("same", "validation", "both"):
        task = canonical_task(tiny_backpack_model, canonical_rows(), "test", rules(hard_negatives=which))
        sizes[which], prompts[which] = len(task.hard_negatives), {item.good for item in task.hard_negatives}
    assert sizes == {"same": 4, "validation": 4, "both": 8} and not prompts["same"] & prompts["validation"]
    assert rules(compat="official").hard("test") == ("validation",) and Rules().hard("test") == ("test",)


def test_the_edge_of_the_ball_is_inside_for_us_and_outside_in_the_released_validation() -> None:
    edge = 1 + 2**-10  # exact in binary
    assert in_ball(edge, 2**-10) and not in_ball(edge, 2**-10, strict=True)
    on_edge = run((0.1, 1.0), (0.9, edge))
    assert winner([on_edge], 2**-10) == (0, 1) and winner([on_edge], 2**-10, rules(compat="official")) == (0, 0)
    assert not rules(compat="official").strict("test") and rules(ball_inequality="below").strict("test")
    ours, below = (get("senses").configure({"ball": "1e-3", "ball_inequality": kind}) for kind in ("at most", "below"))
    assert ours.keeps([0.0, 1e-3], [], 0) and not below.keeps([0.0, 1e-3], [], 0) and below.keeps([0.0, 0.9e-3], [], 0)


def test_the_epoch_rule_counts_the_last_epoch_in_the_ball_or_the_one_that_succeeds_most() -> None:
    falling = run((0.1, 1.0), (0.9, 1.0), (0.2, 1.0), (1.0, 9.0))
    last, best = (Rules(epoch_rule=rule).step(falling.rhos, falling.successes, 1e-3, "test") for rule in ("last", "best"))  # type: ignore[arg-type]
    assert (last, best) == (2, 1)
    keep = {rule: get("senses").configure({"epoch_rule": rule}) for rule in ("last", "best")}
    assert keep["last"].keeps([0.0, 0.0, 0.0], [0.1, 0.9, 0.2], 1) and not keep["best"].keeps([0.0, 0.0, 0.0], [0.1, 0.9, 0.2], 1)
    best = keep["best"].keeps
    assert best([0.0], [0.0], 0) and best([0.0, 0.0], [0.1, 0.2], 0), "the first epoch is kept, and one that succeeds more"
    assert not best([0.0, 0.0], [0.2, 0.2], 0) and not best([0.0, 0.0], [0.2, 0.1], 0), "of equals the first"


def test_a_table_is_stored_in_half_precision_where_asked_and_acts_as_its_rounded_self(tiny_backpack_model: Any) -> None:
    from workbench.edits.engine import applied

    single, half = (fitted(tiny_backpack_model, "senses", lr=0.2, delta_dtype=kind).edit for kind in ("float32", "float16"))
    assert half.delta.dtype == torch.float16 and torch.equal(half.delta, single.delta.half())
    assert not torch.equal(half.delta.float(), single.delta)
    batch, logits = tiny_backpack_model.tokens(["w10 w5 w6"]), []
    for edit in (half, type(single)(single.header, single.token_ids, single.sense_ids, half.delta.float()), single):
        with torch.no_grad(), applied(tiny_backpack_model, edit):
            logits.append(tiny_backpack_model.logits(batch))
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])


def test_accumulation_and_kl_change_what_is_learnt(tiny_backpack_model: Any) -> None:
    base = table(tiny_backpack_model)
    for values in ({"accumulate": "official", "group": 2}, {"kl_direction": "p_to_p0"}, {"kl_reduce": "mean"}):
        same = {"group": values["group"]} if "group" in values else {}
        assert not torch.equal(table(tiny_backpack_model, **values), table(tiny_backpack_model, **same)), values
    assert torch.equal(base, table(tiny_backpack_model, accumulate="fixed", kl_direction="p0_to_p", kl_reduce="sum"))


@pytest.mark.parametrize("values", [{"kl_direction": "p_to_p0"}, {"kl_reduce": "mean"}])
def test_the_kl_switches_reach_weights_too(tiny_gpt2: Any, values: dict[str, str]) -> None:
    low, other = (fitted(tiny_gpt2, "lora", lr=0.03, rank=2, kl_weight=1.0, **extra).edit for extra in ({}, values))
    assert any(not torch.equal(low.factors[site].b, other.factors[site].b) for site in low.factors)


def test_the_blocks_width_is_a_switch_of_its_own(tiny_gpt2: Any) -> None:
    widths = {
        kind: len(AdapterTrainee(tiny_gpt2, configured(LoraConfig, {"rank": 2, "span": 0.4, "lora_span": kind}), 0).parameters)
        for kind in ("c", "c+1")
    }
    assert (
        widths["c"]
        < widths["c+1"]
        == len(AdapterTrainee(tiny_gpt2, configured(LoraConfig, {"rank": 2, "span": 0.4, "compat": "official"}), 0).parameters)
    )


def test_senses_that_an_example_does_not_read_are_picked_only_where_asked(tiny_backpack_model: Any) -> None:
    rows = [len(fitted(tiny_backpack_model, "senses", lr=0.2, top_k=40, pick_ineligible=kind).edit.delta) for kind in ("no", "yes")]
    assert rows[0] < rows[1]


def test_the_protocol_under_official_rules_fits_as_released(tiny_backpack_model: Any) -> None:
    found = protocol(
        tiny_backpack_model, canonical_rows(), "senses", draws=1, seeds=(0,), n_general=4, epsilons=(1.0,), control=False,
        rules=rules(compat="official"),
    )  # fmt: skip
    assert found[0].records[0].config["compat"] == as_json(compat_of(get("senses").config).official)  # type: ignore[union-attr]


def balanced(model: Any, **values: Any) -> CanonicalTask:
    """One question with two answers, of one token each, that succeeds if both are as likely up to 0.005 nats."""
    row = Demonstration("w1 w2", positive=" w3", negative=" w4", loss="balance", tags=("delta:0.005",))
    item = CanonicalItem("balance", (10, 11), (12,), (13,), row)
    return CanonicalTask(
        "made", "test", canonical_rows(), (item,), (item,), rules(**values).compat.eval_norm, rules(**values).rounding(model)
    )


def close_logits(batch: TokenBatch) -> torch.Tensor:
    """Two logits that differ by less than bfloat16 can tell at their size."""
    logits = torch.zeros(*batch.ids.shape, 40)
    logits[..., 12], logits[..., 13] = 8.01, 8.0
    return logits


def test_scores_in_bfloat16_tie_where_single_precision_tells_apart_and_a_tie_counts_as_balance(
    tiny_gpt2: Any, tiny_backpack_model: Any
) -> None:
    found = {}
    for dtype in ("float32", "bfloat16"):
        meter = LogitsMeter(balanced(tiny_gpt2, score_dtype=dtype), [(10, 11, 12)], tiny_gpt2.device)
        found[dtype] = meter.measure(close_logits).success
    assert found == {"float32": 0.0, "bfloat16": 1.0}
    official = rules(compat="official")
    assert (
        official.rounding(tiny_gpt2) == torch.bfloat16
        and official.rounding(tiny_backpack_model) is None
        and Rules().rounding(tiny_gpt2) is None
    )
    assert rules(compat="official", score_dtype="float32").rounding(tiny_gpt2) is None
    with pytest.raises(BadKnob, match="Backpack"):
        canonical_task(tiny_backpack_model, canonical_rows(), "test", rules(score_dtype="bfloat16"))


def longer(model: Any, threshold: float = 1e9, **values: Any) -> CanonicalTask:
    """The pair's own texts with an answer of two tokens among them, that succeeds up to a threshold."""
    row = Demonstration("w1 w2", positive=" w3 w4", tags=(f"delta:{threshold}",))
    item = CanonicalItem("good", (10, 11), (12, 13), None, row)
    task = canonical_task(model, canonical_rows(), "test", rules(**values))
    return replace(task, evaluation=(item,), hard_negatives=(item,))


@pytest.mark.parametrize("values", [{"score_dtype": "bfloat16"}, {"eval_norm": "mean"}, {}])
def test_meters_agree_under_every_rule_of_scores(tiny_gpt2: Any, values: dict[str, str]) -> None:
    task, general = longer(tiny_gpt2, **values), [(3, 14, 15, 12, 40)]
    engine, direct = (
        EngineMeter(tiny_gpt2, task, general).measure(None),
        LogitsMeter(task, general, tiny_gpt2.device).measure(tiny_gpt2.logits),
    )
    for part in ("general", "hard_negatives", "rest", "success"):
        assert getattr(engine, part) == pytest.approx(getattr(direct, part), abs=1e-5)
    plain = EngineMeter(tiny_gpt2, longer(tiny_gpt2), general).measure(None)
    assert (plain.general == engine.general) is ("score_dtype" not in values)


def measures(model: Any, task: CanonicalTask) -> list[Any]:
    """What every meter says of a task, the model unedited."""
    general = [(10, 11)]
    found = [EngineMeter(model, task, general).measure(None), LogitsMeter(task, general, model.device).measure(model.logits)]
    if isinstance(model, BackpackModel):
        selection, table = SenseSelection.of([(10, 0)]), torch.zeros(1, model.info.d_model)
        found.append(SenseMeter(model, task, general, selection).measure_table(table))
    return found


def test_answers_succeed_by_their_summed_loss_or_by_its_mean_and_hard_negatives_stay_summed(
    tiny_gpt2: Any, tiny_backpack_model: Any
) -> None:
    for model in (tiny_gpt2, tiny_backpack_model):
        summed = measures(model, longer(model))[0].hard_negatives
        between = 0.75 * summed  # above the mean over both tokens, below their sum
        for norm, succeeds in (("sum", 0.0), ("mean", 1.0)):
            for found in measures(model, longer(model, between, eval_norm=norm)):
                assert found.success == succeeds and found.hard_negatives == pytest.approx(summed, abs=1e-4)
