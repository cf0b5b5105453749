"""Whatever runs as a job stops at the next block after its cancel, however long a batch takes, and leaves the model as it was.

Blocks are counted, for a machine that others use takes any time; `python -m benchmarks.cancelling` has the seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import contrast_rows, taught_rows, words
from tests.contract.test_methods import batch_of, logits, quick, rows_for
from workbench.evaluate.dose import SWEPT
from workbench.methods import get, names
from workbench.methods.canonical.finetuning import TwinTrainee
from workbench.models.base import LanguageModel
from workbench.progress import Cancelled, Progress, stoppable
from workbench.sampling import Sampling
from workbench.session import Session
from workbench.workspace.job import Job
from workbench.workspace.jobs import Jobs

# A block that takes this long makes a batch of the tiny models, forwards and backwards, take most of a second; an epoch takes many.
BLOCK_S = 0.2
# The one that runs, and one that had asked just before the cancel.
LAST_BLOCKS = 2
Doing = Callable[[Session, Progress], object]
TARGETS = " w11", " w12"
LENSES: dict[str, Doing] = {
    "logit_lens": lambda on, tell: on.look("logit_lens", words(*range(12)), progress=tell),
    "jacobian_lens": lambda on, tell: on.look("jacobian_lens", words(*range(12)), progress=tell),
    "attention": lambda on, tell: on.look("attention", words(*range(12)), progress=tell),
    "head_scores": lambda on, tell: on.look("head_scores", n=20, progress=tell),
    "induction_proof": lambda on, tell: on.look("induction_proof", n=20, progress=tell),
    "head_ablation": lambda on, tell: on.look("head_ablation", words(*range(12)), *TARGETS, progress=tell),
    "direct_attribution": lambda on, tell: on.look("direct_attribution", words(*range(12)), *TARGETS, progress=tell),
    "activation_patching": lambda on, tell: on.look("activation_patching", words(1, 2, 3), words(1, 4, 3), *TARGETS, progress=tell),
    "circuit": lambda on, tell: on.look("circuit", words(1, 2, 3), words(1, 4, 3), *TARGETS, progress=tell),
    "locate": lambda on, tell: on.look("locate", contrast_rows(60), progress=tell),
    "concept_meter": lambda on, tell: on.look("concept_meter", contrast_rows(60), progress=tell),
    "enough_pairs": lambda on, tell: on.look("enough_pairs", contrast_rows(60), progress=tell),
    "demonstration_geometry": lambda on, tell: on.look("demonstration_geometry", contrast_rows(60), progress=tell),
}
MEASURED: dict[str, Doing] = {
    "choose": lambda on, tell: on.choose("mean_difference", taught_rows(), progress=tell),
    "generate": lambda on, tell: on.generate(words(1, 2), [()], Sampling(max_new_tokens=60), progress=tell),
    "compare": lambda on, tell: on.compare(words(1, 2), [()], Sampling(max_new_tokens=60), progress=tell),
    "evaluate": lambda on, tell: on.evaluate(_at_hand(on), contrast_rows(60), n_generations=4, progress=tell),
    "verdict": lambda on, tell: on.evaluate(_at_hand(on), contrast_rows(60), seconds=60.0, shuffled=True, n_generations=0, progress=tell),
    "sweep": lambda on, tell: on.sweep(_at_hand(on), contrast_rows(60), SWEPT, progress=tell),
    "equal_damage": lambda on, tell: on.equal_damage(taught_rows(), ["mean_difference"], progress=tell),
    "design_search": lambda on, tell: on.design_search(taught_rows(), ["mean_difference"], trials=12, progress=tell),
    "influence": lambda on, tell: on.influence(_at_hand(on), contrast_rows(60), progress=tell),
    "off_target": lambda on, tell: on.off_target([_at_hand(on)], [contrast_rows(60, seed) for seed in range(4)], progress=tell),
    "watch": lambda on, tell: on.watch(words(1, 2), [_at_hand(on)], 60, progress=tell),
    "coherent_dose": lambda on, tell: on.coherent_dose(_at_hand(on), progress=tell),
}


def _at_hand(on: Session) -> str:
    return on.shelf.fitted()[0].edit.id


@contextmanager
def slowed(model: LanguageModel) -> Generator[list[float]]:
    """Within this context every block of the model takes BLOCK_S; yields when each of them began."""
    began = list[float]()

    def slow(*_: object) -> None:
        began.append(time.monotonic())
        time.sleep(BLOCK_S)

    bridge = getattr(model, "bridge", None)
    blocks = [*(bridge.blocks if bridge is not None else ()), *(model.blocks or model._body.h)]  # type: ignore[attr-defined]
    handles = [block.register_forward_pre_hook(slow) for block in blocks]
    try:
        yield began
    finally:
        for handle in handles:
            handle.remove()


def stopped_after(job: Job, run_s: float, blocks: list[float], first: int = 1) -> int:
    """Blocks that began after the cancel of a job that has run for a while, and for so many blocks."""
    job.wait(run_s)
    while len(blocks) < first and not job.wait(0.05):
        pass
    assert not job.wait(0), f"{job.title} was over before it could be cancelled: {job.snapshot().error}"
    cancelled = time.monotonic()
    job.cancel()
    assert job.wait(60)
    assert job.state == "cancelled", job.snapshot().error
    return sum(began > cancelled for began in blocks)


def check(model: LanguageModel, folder: Path, doing: Doing, run_s: float = 1.5) -> None:
    base, hooks, session = logits(model), model.hook_count(), Session(model, folder)
    session.fit("mean_difference", contrast_rows(60))
    with slowed(model) as blocks:
        job = Jobs().submit(lambda progress: doing(session, progress), title="work", model="tiny")
        assert stopped_after(job, run_s, blocks) <= LAST_BLOCKS
    assert torch.equal(logits(model), base) and model.hook_count() == hooks


@pytest.mark.parametrize("name", [name for name in names() if not get(name).needs.senses])
def test_every_fit_stops_at_the_next_block(name: str, tiny_gpt2: Any, tmp_path: Path) -> None:
    # Random words name no behaviour that the method could look for at places of its own choice.
    config, run_s = (quick(get(name)), 0.5) if name == "refusal_direction" else (None, 0.8)
    check(tiny_gpt2, tmp_path, lambda on, tell: on.fit(name, rows_for(get(name)), config, progress=tell), run_s)


@pytest.mark.parametrize("name", [name for name in names() if get(name).needs.senses])
def test_every_fit_of_senses_stops_at_the_next_block(name: str, tiny_backpack_model: Any, tmp_path: Path) -> None:
    check(tiny_backpack_model, tmp_path, lambda on, tell: on.fit(name, rows_for(get(name)), progress=tell), 0.5)


@pytest.mark.parametrize("what", [*LENSES, *MEASURED])
def test_whatever_looks_or_measures_stops_at_the_next_block(what: str, tiny_gpt2: Any, tmp_path: Path) -> None:
    check(tiny_gpt2, tmp_path, {**LENSES, **MEASURED}[what], 0.25 if what in {**LENSES, "off_target": None} else 1.5)  # some look once


def test_who_waits_for_another_lens_stops_waiting(tiny_gpt2: Any, tmp_path: Path) -> None:
    session = Session(tiny_gpt2, tmp_path)
    with tiny_gpt2.lock:
        job = Jobs().submit(lambda tell: LENSES["attention"](session, tell), title="waits")
        assert stopped_after(job, 0.3, [], 0) == 0, "it ended, though the model was never free"


def test_the_copy_that_finetuning_trains_stops_like_the_model_and_carries_no_other_hook(tiny_gpt2: Any) -> None:
    seen, batch, progress = list[object](), batch_of(tiny_gpt2), Progress()
    with tiny_gpt2.intercept("resid_post@1", seen.append):
        copy = TwinTrainee(tiny_gpt2)
        assert torch.equal(copy.logits(batch), logits(tiny_gpt2, batch)) and len(seen) == 1
    progress.cancel()
    with stoppable(progress), pytest.raises(Cancelled):
        copy.logits(batch)


def test_by_reports_alone_it_would_take_longer(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: where blocks do not ask, a fit goes on to its next report."""
    monkeypatch.setattr("workbench.models.hooks.asked_progress", lambda: None)
    monkeypatch.setattr("workbench.numerics.canonical_loop.stop_if_asked", lambda: None)
    session = Session(tiny_gpt2, tmp_path)
    with slowed(tiny_gpt2) as blocks:
        job = Jobs().submit(lambda tell: session.fit("lora", rows_for(get("lora")), {"epochs": 1}, progress=tell), title="lora")
        assert stopped_after(job, 0.3, blocks) > LAST_BLOCKS
