"""What every registered method promises, on every tiny model for which it has no obstacle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import FAMILIES, contrast_rows, words
from workbench.data.demonstrations import Demonstration, Demonstrations
from workbench.decode import Sampling, generate
from workbench.edits import store
from workbench.edits.engine import applied, lanes
from workbench.errors import Obstructed
from workbench.methods import get, names
from workbench.methods.registry import Fitted, Method
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.operations import AddToWeight, TransformAt
from workbench.progress import Cancelled, Progress, Report
from workbench.record import activations

# Knobs that make a fit on random words short; what they leave out is tested with each method.
QUICK: dict[str, dict[str, Any]] = {
    "hpr": {"epochs": 2, "max_damage": 10.0},
    "tarot": {"budget": 14, "n_init": 6, "n_train": 6, "n_val": 4, "optimizer": "random"},
    "are": {"max_rounds": 1, "n_prompts": 16, "epochs_g": 1, "min_accuracy": 0.0, "sample_every": 0},
    "refusal_direction": {"layer": 1, "positions": 1},
    "lora": {"epochs": 1},
    "finetuning": {"epochs": 1},
    "senses": {"epochs": 1},
}
CLOSE = 3e-5  # float32 rounding of matrix products in another batch shape


def quick(method: Method) -> Any:
    known = {name for name in method.config.__dataclass_fields__}
    return method.configure({name: value for name, value in QUICK.get(method.name, {}).items() if name in known})


def rows_for(method: Method) -> Demonstrations:
    """Demonstrations of the kind that the method reads."""
    rows = contrast_rows(60)
    if method.needs.task == "concept":
        made = [
            Demonstration(words(*range(start + i % 5, start + 4 + i % 5), 40 + i % 7), label=label, split=row.split, id=f"{label}-{i}")
            for i, row in enumerate(rows)
            for label, start in (("target", 5), ("anti_target", 70))
        ]
        return Demonstrations(tuple(made), "random concepts")
    if method.needs.task == "label":
        made = [Demonstration(row.prompt, label=(" w1", " w2")[i % 2], split=row.split, id=row.id) for i, row in enumerate(rows)]
        return Demonstrations(tuple(made), "random labels")
    if method.needs.task == "canonical":
        made = [
            Demonstration(row.prompt, positive=row.positive, loss="good", split=row.split, id=row.id, tags=("task:random", "role:train"))
            for row in rows.rows[:8]
        ]
        chunks = [
            Demonstration(words(*[(7 * i + j) % 90 for j in range(12)]), split="fit", id=f"r{i}", tags=("role:regularisation",))
            for i in range(4)
        ]
        return Demonstrations((*made, *chunks), "random facts")
    return rows


_FITS: dict[tuple[str, str], Fitted] = {}


def fitted(name: str, family: str, model: LanguageModel) -> Fitted:
    """One fit a method and family, shared by the tests."""
    if (name, family) not in _FITS:
        method = get(name)
        _FITS[name, family] = method.fit(model, rows_for(method), quick(method), seed=1)
    return _FITS[name, family]


@pytest.fixture(params=[(name, family) for name in names() for family in FAMILIES if not get(name).needs.senses], ids=lambda p: "-".join(p))
def case(request: pytest.FixtureRequest, tiny_models: dict[str, LanguageModel]) -> tuple[str, str, LanguageModel]:
    name, family = request.param
    model = tiny_models[family]
    obstacles = get(name).obstacles(model, rows_for(get(name)))
    assert not obstacles, f"{name} on {family}: {obstacles}"
    return name, family, model


def batch_of(model: LanguageModel) -> TokenBatch:
    return model.tokens([words(12, 13, 14, 15), words(20, 12)])


def logits(model: LanguageModel, batch: TokenBatch | None = None) -> Tensor:
    with torch.no_grad():
        return model.logits(batch or batch_of(model))


def test_a_fit_leaves_the_model_bit_equal_and_reports_its_progress_to_the_end(case: tuple[str, str, LanguageModel]) -> None:
    name, family, model = case
    base, hooks = logits(model), model.hook_count()
    told: list[Report] = []
    method = get(name)
    fit = method.fit(model, rows_for(method), quick(method), seed=1, progress=Progress(told.append))
    assert torch.equal(logits(model), base)
    assert model.hook_count() == hooks
    assert told[-1].share == 1.0
    shares = [report.share for report in told]
    assert shares == sorted(shares)
    assert not any(p.requires_grad for p in model.network.parameters())
    _FITS.setdefault((name, family), fit)
    assert fit.edit.id == _FITS[name, family].edit.id, "the same seed gives the same edit"


def test_cancelling_in_the_middle_leaves_nothing_behind(case: tuple[str, str, LanguageModel]) -> None:
    name, _, model = case
    base, hooks = logits(model), model.hook_count()

    def stop(report: Report) -> None:
        if report.share >= 0.3:
            progress.cancel()

    progress = Progress(stop)
    method = get(name)
    with pytest.raises(Cancelled):
        method.fit(model, rows_for(method), quick(method), seed=1, progress=progress)
    assert torch.equal(logits(model), base)
    assert model.hook_count() == hooks


def test_dose_zero_is_the_identity_and_nothing_below_the_first_site_moves(case: tuple[str, str, LanguageModel]) -> None:
    name, family, model = case
    edit, base = fitted(name, family, model).edit, logits(model)
    with applied(model, edit.scaled(0.0)):
        assert torch.equal(logits(model), base)
        assert edit.scaled(0.0).operations() == ()
    layers = [op.site.layer for op in edit.operations() if op.site.layer is not None]
    assert all(isinstance(op, TransformAt | AddToWeight) for op in edit.operations())
    if layers and min(layers) > 0:
        site = f"resid_pre@{min(layers)}"
        with torch.no_grad():
            below = activations(model, batch_of(model), [site])
            with applied(model, edit):
                after = activations(model, batch_of(model), [site])
        assert all(torch.equal(below[at], after[at]) for at in below)


def test_an_edit_comes_back_from_disk_with_bit_equal_logits(case: tuple[str, str, LanguageModel], tmp_path: Path) -> None:
    name, family, model = case
    edit = fitted(name, family, model).edit
    again = store.load_edit(store.save(edit, tmp_path / "edit"))
    assert again.id == edit.id
    with applied(model, edit):
        wanted = logits(model)
    with applied(model, again):
        assert torch.equal(logits(model), wanted)


def test_cached_equals_uncached_and_batched_equals_alone(case: tuple[str, str, LanguageModel]) -> None:
    name, family, model = case
    edit, batch = fitted(name, family, model).edit, batch_of(model)
    with torch.no_grad(), applied(model, edit):
        full = model.logits(batch)
        alone = model.logits(model.tokens(words(20, 12)))
        short = TokenBatch(batch.ids[:, :-1], batch.mask[:, :-1], batch.n_prompt)
        _, cache = model.step(short, model.new_cache(), 0)
        last, _ = model.step(batch, cache, batch.ids.shape[1] - 1)
    torch.testing.assert_close(last, full[:, -1], atol=CLOSE, rtol=1e-3)
    torch.testing.assert_close(full[1, -2:], alone[0], atol=CLOSE, rtol=1e-3)


def test_lanes_with_other_methods_equal_each_alone(case: tuple[str, str, LanguageModel]) -> None:
    name, family, model = case
    edit, other = fitted(name, family, model).edit, fitted("mean_difference", family, model).edit
    batch = batch_of(model)
    with lanes(model, [(), (edit,), (other,), (edit.scaled(0.5),)]):
        together = logits(model, batch.repeat(4))
    real = batch.mask
    for i, stack in enumerate([(), (edit,), (other,), (edit.scaled(0.5),)]):
        with applied(model, *stack):
            torch.testing.assert_close(together[2 * i : 2 * i + 2][real], logits(model)[real], atol=CLOSE, rtol=1e-3)


def test_generation_runs_under_the_edit(case: tuple[str, str, LanguageModel]) -> None:
    name, family, model = case
    edit = fitted(name, family, model).edit
    made = generate(model, [words(12, 13)], [(), (edit,)], Sampling(max_new_tokens=4))
    assert all(len(lane[0].ids) >= 1 for lane in made)


@pytest.mark.parametrize("name", names())
def test_a_method_names_its_obstacles_and_refuses_by_them(name: str, tiny_gpt2: LanguageModel) -> None:
    method = get(name)
    nothing = Demonstrations((), "empty")
    obstacles = method.obstacles(tiny_gpt2, nothing)
    assert obstacles
    assert all(item.reason and item.hint for item in obstacles)
    with pytest.raises(Obstructed):
        method.fit(tiny_gpt2, nothing)


@pytest.mark.parametrize("name", names())
def test_every_preset_can_be_configured_and_every_knob_explains_itself(name: str) -> None:
    from workbench.knobs import knobs

    method = get(name)
    for preset in method.presets:
        assert isinstance(method.configure(preset=preset), method.config)
    assert all(item.label and len(item.help) > 10 for item in knobs(method.config))
    assert method.summary.endswith(".")
