"""What a site holds, token by token: the norm of its activation, or one of its numbers, over prompts or a whole set.

A token whose norm is far beyond the others' (`models.sinks.norm_bound`) is massive: the text leans on it, it carries no content, and it is
told apart so that it hides nobody else. Where an edit stands before the site, what is read is what it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import BadKnob, BadPrompt, BadSite
from workbench.models.base import LanguageModel
from workbench.models.sinks import norm_bound
from workbench.models.token_texts import token_texts
from workbench.models.tokens import TokenBatch
from workbench.operations import wide
from workbench.progress import Progress, silent
from workbench.record import stream
from workbench.shapes import Bool, Float, Int, Tensor
from workbench.sites import Site
from workbench.sites import site as site_of

MOST_TEXTS = 512


@dataclass(frozen=True)
class SiteReading:
    """One row of numbers a lane, the tokens of all texts one behind another.

    `values` are those of the number `unit` of the site, or the norms again where none was asked for. `largest` are the site's numbers that
    are furthest from 0, by their place, `largest_values` what they are. `massive` marks tokens of the attention sink.
    """

    model: str
    lanes: tuple[LaneLabel, ...]
    site: str
    unit: int | None
    width: int
    prompts: tuple[Prompt, ...]
    text_of: Int[np.ndarray, " token"]
    tokens: tuple[str, ...]
    norms: Float[np.ndarray, "lane token"]
    values: Float[np.ndarray, "lane token"]
    massive: Bool[np.ndarray, "lane token"]
    largest: Int[np.ndarray, "lane token k"]
    largest_values: Float[np.ndarray, "lane token k"]

    def places(self, text: int) -> list[int]:
        """Where the tokens of one text stand among all."""
        return np.flatnonzero(self.text_of == text).tolist()

    def strongest(self, k: int = 10, lane: int = 0, *, lowest: bool = False) -> list[int]:
        """The tokens with the highest (or lowest) values, the first first, one a text, without massive ones unless there are no others."""
        values = self.values[lane] * (-1 if lowest else 1)
        order = [int(i) for i in np.argsort(-values, kind="stable")]
        ordinary = [i for i in order if not self.massive[lane, i]] or order
        found: dict[int, int] = {}
        for i in ordinary:
            found.setdefault(int(self.text_of[i]), i)
        return list(found.values())[:k]

    @property
    def says(self) -> str:
        """What stands out in the first lane, in one sentence."""
        n, massive = len(self.tokens), np.flatnonzero(self.massive[0])
        if not len(massive):
            return f"None of the {n} tokens is massive: every norm is of one order."
        rest = float(np.median(self.norms[0][~self.massive[0]]))
        named = ", ".join(dict.fromkeys(repr(self.tokens[i]) for i in massive))[:60]
        ratio = float(self.norms[0][massive].mean()) / max(rest, 1e-12)
        are = "token is" if len(massive) == 1 else "tokens are"
        return f"{len(massive)} of {n} {are} massive ({named}): {ratio:.0f} times as long as the median of the others, an attention sink."

    def rows(self) -> list[dict[str, Any]]:
        """One table row a token; columns of each lane side by side."""
        starts = {text: self.places(text)[0] for text in dict.fromkeys(self.text_of.tolist())}
        found: list[dict[str, Any]] = []
        for i, token in enumerate(self.tokens):
            text = int(self.text_of[i])
            row: dict[str, Any] = {"text": text, "token": i - starts[text], "says": token}
            for j, lane in enumerate(self.lanes):
                row[f"norm, {lane.label}"] = float(self.norms[j, i])
                row[f"massive, {lane.label}"] = bool(self.massive[j, i])
                if self.unit is not None:
                    row[f"{self.site}[{self.unit}], {lane.label}"] = float(self.values[j, i])
                told = zip(self.largest[j, i].tolist(), self.largest_values[j, i].tolist())
                row[f"largest, {lane.label}"] = " ".join(f"{at}:{value:.3g}" for at, value in told)
            found.append(row)
        return found


def reader(
    model: LanguageModel,
    prompt: Prompt | None = None,
    site: str = "resid_post@0",
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    unit: int | None = None,
    texts: Sequence[Prompt] | None = None,
    demonstrations: Demonstrations | None = None,
    top_k: int = 4,
    progress: Progress | None = None,
) -> SiteReading:
    """Read a site at every token, under each stack of edits.

    Args:
        prompt, texts, demonstrations: what is read, one of them: a prompt, several, or the prompts of a set, the first `MOST_TEXTS`.
        site: for example resid_post@5, head_z@3.7, mlp_post@2. unit: which of its numbers; the norm of all if None.

    Raises:
        UnknownSite: the model has no such site. BadSite: it is a matrix. BadKnob: it has no such number, or several kinds of texts are
        given. BadPrompt: there is none. NotFinite: the model gives NaN there. Others: as `engine.lanes`.
    """
    tell, address, given = progress or silent(), token_site(site), texts_of(prompt, texts, demonstrations)[:MOST_TEXTS]
    width = model.width(address)
    if unit is not None and not 0 <= unit < width:
        raise BadKnob(f"{site} holds {width} numbers, and number {unit} is asked for.", f"Give one from 0 to {width - 1}.")
    batch = model.tokens(given)
    k = min(top_k, width)
    found: list[tuple[Tensor, ...]] = []
    for i, stack in enumerate(stacks):
        with applied(model, *stack):
            found.append(_read(model, batch, address, unit, k, tell.part(i / len(stacks), (i + 1) / len(stacks))))
    tell(1.0, "Done")
    norms, values, largest, amounts = (np.stack([one[i].numpy() for one in found]) for i in range(4))
    bounds = [norm_bound(torch.from_numpy(line)) for line in norms]
    massive = np.stack([line > (np.inf if bound is None else bound) for line, bound in zip(norms, bounds)])
    text_of = batch.mask.nonzero()[:, 0].cpu().numpy()
    tokens = token_texts(model.tokenizer, batch.ids[batch.mask])
    return SiteReading(
        model.info.name,
        lane_labels(stacks),
        str(address),
        unit,
        width,
        tuple(given),
        text_of,
        tokens,
        norms,
        values,
        massive,
        largest,
        amounts,
    )


def readable_sites(model: LanguageModel) -> tuple[Site, ...]:
    """The sites of a model that every token passes, in the order of the forward; a head of `head_z` is one too."""
    return tuple(site for site in model.sites() if not site.is_weight and site.head is None)


def token_site(site: str) -> Site:
    """An address that holds something for every token. Raises: BadSite: it is no address, or a matrix."""
    address = site_of(site)
    if address.is_weight:
        raise BadSite(f"{site} is a matrix, which holds the same for every token.", "Give a place of the forward, such as resid_post@0.")
    return address


def texts_of(prompt: Prompt | None, texts: Sequence[Prompt] | None, rows: Demonstrations | None) -> list[Prompt]:
    """What is read: a prompt, several, or each prompt of a set once. Raises: BadKnob: several kinds are given. BadPrompt: there is none."""
    if sum(one is not None for one in (prompt, texts, rows)) > 1:
        raise BadKnob("A prompt, texts and a set are given together.", "Give one of them.")
    found = list(texts or ()) if rows is None else list(dict.fromkeys(row.prompt or row.neutral or "" for row in rows))
    found = [prompt] if prompt is not None else found
    if not any(str(one).strip() for one in found):
        raise BadPrompt("There is no text to read.", "Write a prompt, or choose a set that has prompts.")
    return [one for one in found if str(one).strip()]


def _read(
    model: LanguageModel, batch: TokenBatch, site: Site, unit: int | None, k: int, tell: Progress
) -> tuple[Float[Tensor, " token"], Float[Tensor, " token"], Int[Tensor, "token k"], Float[Tensor, "token k"]]:
    parts: list[tuple[Tensor, ...]] = []
    for seen in stream(model, batch, [site], "all", progress=tell):
        x = wide(seen[site]).cpu()
        norm = x.norm(dim=-1)
        at = x.abs().topk(k, dim=-1).indices
        parts.append((norm, norm if unit is None else x[:, unit], at, x.gather(-1, at)))
    norms, values, largest, amounts = (torch.cat([part[i] for part in parts]) for i in range(4))
    return norms, values, largest, amounts
