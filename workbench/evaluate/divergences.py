"""How far lanes move the next-token distributions on given texts; what a lane says stands before each text, and the text is the same."""

from __future__ import annotations

from collections.abc import Callable

import torch

from workbench.edits.base import Stack
from workbench.edits.engine import lanes as running
from workbench.edits.labels import edits_of
from workbench.edits.prompting import Prompting
from workbench.errors import BadPrompt
from workbench.evaluate.metrics import Lanes, by_prompting
from workbench.forks import LOGITS_AT_ONCE, predicting, widened
from workbench.models.base import LanguageModel
from workbench.models.tokens import TokenBatch, prompt_ids
from workbench.progress import Progress, silent
from workbench.score import Divergences, text_divergences
from workbench.shapes import Bool, Float, Tensor

Behind = Callable[[Prompting], list[list[int]]]
"""The ids of every text behind what a lane says, the text's own tokens last."""


def divergences_of(
    model: LanguageModel,
    batch: TokenBatch,
    lanes: Lanes,
    counted: Bool[Tensor, "row pos"] | None = None,
    *,
    behind: Behind | None = None,
    progress: Progress | None = None,
) -> Divergences:
    """KL(unedited model on the text alone ‖ lane) and −log p, in nats, at the counted tokens; other arguments as `text_divergences`.

    Args:
        behind: how texts read behind what a lane says; by default as plain words before a text that is no conversation.

    Raises:
        BadPrompt: what a lane says and a text together are longer than the context. Others: as `text_divergences`.
    """
    tell, groups = progress or silent(), by_prompting(lanes)
    where = predicting(batch) if counted is None else counted & batch.mask
    kl, nll = (torch.zeros(len(lanes), int(where.sum()), dtype=torch.float64) for _ in range(2))
    for i, (said, mine) in enumerate(groups):
        part, stacks = tell.part(i / len(groups), (i + 1) / len(groups)), [edits_of(lanes[lane]) for lane in mine]
        if said is None:
            found = text_divergences(model, batch, stacks, counted, progress=part)
            kl[mine], nll[mine] = found.kl, found.nll
        else:
            whole = _before_texts(model, batch, said) if behind is None else behind(said)
            kl[mine], nll[mine] = _behind(model, batch, whole, stacks, where, part)
    return Divergences(kl, nll, where.nonzero()[:, 0].cpu())


def _n_special(model: LanguageModel) -> int:
    """How many special tokens the tokenizer puts before a text."""
    word = str(model.tokenizer.decode([0]))
    whole, bare = (list[int](model.tokenizer(word, add_special_tokens=special)["input_ids"]) for special in (True, False))
    return next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)


def _before_texts(model: LanguageModel, batch: TokenBatch, said: Prompting) -> list[list[int]]:
    """What is said takes the place of the special tokens before each text."""
    head, starts = prompt_ids(model.tokenizer, said.as_text()), _n_special(model)
    return [[*head, *row[mask].tolist()[starts:]] for row, mask in zip(batch.ids, batch.mask)]


@torch.no_grad()
def _behind(
    model: LanguageModel, batch: TokenBatch, whole: list[list[int]], stacks: list[Stack], where: Bool[Tensor, "row pos"], tell: Progress
) -> tuple[Float[Tensor, "lane token"], Float[Tensor, "lane token"]]:
    """The same where lanes read their texts behind what they say: each text token stays in its own column from the right."""
    longest = max(map(len, whole))
    if longest > model.info.n_ctx:
        raise BadPrompt(f"A text behind what a lane says is {longest} tokens long; the context holds {model.info.n_ctx}.", "Say less.")
    kl: list[Tensor] = []
    nll: list[Tensor] = []
    step = max(1, LOGITS_AT_ONCE // ((len(stacks) + 1) * longest * model.info.d_vocab))
    for start in range(0, len(batch), step):
        part, at = batch.rows(slice(start, start + step)), where[start : start + step]
        # Rows that are shorter than the batch's longest keep its padding; what is read behind the head has only its own.
        width = int(part.lengths.max())
        part, at = TokenBatch(part.ids[:, -width:], part.mask[:, -width:], part.n_prompt), at[:, -width:]
        behind = TokenBatch.of(whole[start : start + step], None, model.device).repeat(len(stacks))
        base = widened(model.logits(part))[at].log_softmax(-1)
        with running(model, stacks):
            logits = widened(model.logits(behind))[:, -width:]
        # What stood before a text may be longer than what stands there now; the tokens that count have their columns in both.
        logits = torch.nn.functional.pad(logits, (0, 0, width - logits.shape[1], 0))
        edited = [mine[at].log_softmax(-1) for mine in logits.view(len(stacks), *part.ids.shape, -1)]
        targets, is_one = part.ids.roll(-1, 1)[at][:, None], predicting(part)[at]
        kl.append(torch.stack([(base.exp() * (base - log_p)).sum(-1) for log_p in edited]).double().cpu())
        nll.append(torch.stack([torch.where(is_one, -log_p.gather(-1, targets)[:, 0], 0.0) for log_p in edited]).double().cpu())
        tell(min(1.0, (start + step) / len(batch)), "Reading neutral text")
    return torch.cat(kl, 1), torch.cat(nll, 1)
