"""Many at once on one model: threads that generate under different edits, each text equal to that of its edit alone."""

from __future__ import annotations

import random
import threading
from typing import Any

import torch

from tests.conftest import words
from tests.operations import edit_of, noise, shift
from workbench.decode import Sampling, generate
from workbench.edits.base import Edit
from workbench.operations import AddToWeight, LowRank, Rows
from workbench.sites import Site


def edits_of(model: Any) -> dict[str, tuple[Edit, ...]]:
    """Stacks of every kind: none, activations, low rank, rows, and all of them together."""
    d_model, d_in = model.info.d_model, model.weight("w_out@1").shape[1]
    turned = edit_of(model, shift(d_model, site="resid_post@1"))
    low = edit_of(model, AddToWeight(Site("w_out", 1), LowRank(noise(2, d_in), noise(d_model, 2), 1.5)))
    rows = edit_of(model, AddToWeight(Site("w_e"), Rows(torch.tensor([3, 7, 12]), noise(3, d_model))))
    return {"base": (), "activations": (turned,), "low rank": (low,), "rows": (rows,), "all": (turned, low, rows)}


def interleaved(model: Any, n: int, n_threads: int = 8, seed: int = 0) -> int:
    """Generate `n` texts in threads at once; return how many differ from their edit alone. Hooks and logits are those before."""
    stacks, draw = edits_of(model), random.Random(seed)
    prompts = [words(*(draw.randint(1, 40) for _ in range(draw.randint(2, 6)))) for _ in range(8)]
    sampling = Sampling(max_new_tokens=8)
    alone = {(name, i): _ids(model, prompt, stack, sampling) for name, stack in stacks.items() for i, prompt in enumerate(prompts)}
    if len({alone[name, 0] for name in stacks}) < 3:
        raise AssertionError("the edits say the same, so that equal texts say nothing")
    batch = model.tokens(prompts[0])
    logits, hooks = model.logits(batch), model.hook_count()
    wrong: list[tuple[str, int]] = []
    asked = [draw.choice(sorted(alone)) for _ in range(n)]

    def work(mine: list[tuple[str, int]]) -> None:
        for name, i in mine:
            try:
                found = _ids(model, prompts[i], stacks[name], sampling)
            except Exception:  # told as a difference; a thread has nobody above it
                found = None
            if found != alone[name, i]:
                wrong.append((name, i))

    threads = [threading.Thread(target=work, args=(asked[k::n_threads],)) for k in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if model.hook_count() != hooks or not torch.equal(model.logits(batch), logits):
        raise AssertionError("hooks or logits are not those before")
    return len(wrong)


def _ids(model: Any, prompt: str, stack: tuple[Edit, ...], sampling: Sampling) -> tuple[int, ...]:
    return tuple(generate(model, [prompt], [stack], sampling)[0][0].ids)
