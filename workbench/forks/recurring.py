"""Rows that a search runs again and again, each lane with changes of its own: what does not depend on them runs once.

What lies below the first changed block is run when the rows are given, and what rows begin with alike is run once a lane, not once a row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import final

import torch

from workbench.forks.bundles import Bundle, bundles
from workbench.forks.passes import Pass, onward, unedited_pass
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch
from workbench.shapes import Float, Tensor


@final
class Recurring:
    """Rows of tokens on a model that `runs_apart`, which nothing changes below block `fork`."""

    def __init__(self, model: LanguageModel, batch: TokenBatch, fork: int) -> None:
        """Run what no change reaches.

        Args:
            batch: `n_prompt` says how much of a row is its beginning; equal beginnings run once. A row's last token is never read.
        """
        self._model, self._fork, self._n_rows = model, fork, len(batch)
        self._width = int((batch.lengths - batch.n_prompt).max())
        with torch.no_grad():
            self._parts = [(bundle, self._passes(bundle)) for bundle in bundles(batch)]

    @torch.no_grad()
    def leaving(self, n_lanes: int) -> Float[Tensor, "lane row token d_model"]:
        """What leaves the last block where each token behind a row's beginning is predicted; nothing of use behind a row's last.

        The changes are those that are open around this call; where they read the batch, it is lane after lane.
        """
        model, found = self._model, list[Tensor]()
        order = [row for bundle, _ in self._parts for row in bundle.rows]
        for bundle, passes in self._parts:
            cache, n = model.new_cache(), len(bundle.prompts)
            first = self._from_fork(passes[0], n_lanes, cache)[:, :, -1]
            later = iter(passes[1:])
            for end in bundle.ends:
                x = first.new_zeros(n_lanes, len(end.rows), self._width, first.shape[-1])
                x[:, :, 0] = first[:, end.of_prompt]
                if end.is_fed:
                    rows = torch.cat([end.of_prompt + lane * n for lane in range(n_lanes)])
                    x[:, :, 1 : end.targets.shape[1]] = self._from_fork(next(later), n_lanes, model.selected(cache, rows))
                found.append(x)
        return torch.cat(found, 1)[:, torch.tensor(order, device=found[0].device).argsort()]

    def _from_fork(self, done: Pass, n_lanes: int, cache: object) -> Float[Tensor, "lane row pos d_model"]:
        entering = done.entering[self._fork].repeat(n_lanes, 1, 1)
        return onward(self._model, self._fork, done, entering, n_lanes, cache).unflatten(0, (n_lanes, -1))

    def _passes(self, bundle: Bundle) -> tuple[Pass, ...]:
        model, cache, n_before = self._model, self._model.new_cache(), bundle.prompts.ids.shape[1]
        passes = [unedited_pass(model, bundle.prompts, 0, cache, [self._fork])]
        passes += [
            unedited_pass(model, end.batch, n_before, model.selected(cache, end.of_prompt), [self._fork])
            for end in bundle.ends
            if end.is_fed
        ]
        return tuple(replace(done, entering={self._fork: done.entering[self._fork]}) for done in passes)
