"""How far lanes move the next-token distributions on given texts; what a lane says stands before each text, and the text is the same."""

from __future__ import annotations

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


def divergences_of(
    model: LanguageModel,
    batch: TokenBatch,
    lanes: Lanes,
    counted: Bool[Tensor, "row pos"] | None = None,
    *,
    progress: Progress | None = None,
) -> Divergences:
    """KL(unedited model on the text alone ‖ lane) and −log p, in nats, at the counted tokens; arguments as `text_divergences`.

    A system message stands before the texts as plain words: they are no conversations.

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
            kl[mine], nll[mine] = _behind(model, batch, said, stacks, where, part)
    return Divergences(kl, nll, where.nonzero()[:, 0].cpu())


def _n_special(model: LanguageModel) -> int:
    """How many special tokens the tokenizer puts before a text."""
    word = str(model.tokenizer.decode([0]))
    whole, bare = (list[int](model.tokenizer(word, add_special_tokens=special)["input_ids"]) for special in (True, False))
    return next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)


@torch.no_grad()
def _behind(
    model: LanguageModel, batch: TokenBatch, said: Prompting, stacks: list[Stack], where: Bool[Tensor, "row pos"], tell: Progress
) -> tuple[Float[Tensor, "lane token"], Float[Tensor, "lane token"]]:
    """The same where lanes read their texts behind what they say."""
    head = prompt_ids(model.tokenizer, said.as_text())
    starts = _n_special(model)
    longest = int(batch.lengths.max()) + len(head)
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
        # The head takes the place of the special tokens before the text, so that each text token stays in its own column from the right.
        texts = [row[mask].tolist() for row, mask in zip(part.ids, part.mask)]
        behind = TokenBatch.of([[*head, *text[starts:]] for text in texts], None, model.device).repeat(len(stacks))
        base = widened(model.logits(part))[at].log_softmax(-1)
        with running(model, stacks):
            logits = widened(model.logits(behind))[:, -width:]
        edited = [mine[at].log_softmax(-1) for mine in logits.view(len(stacks), *part.ids.shape, -1)]
        targets, is_one = part.ids.roll(-1, 1)[at][:, None], predicting(part)[at]
        kl.append(torch.stack([(base.exp() * (base - log_p)).sum(-1) for log_p in edited]).double().cpu())
        nll.append(torch.stack([torch.where(is_one, -log_p.gather(-1, targets)[:, 0], 0.0) for log_p in edited]).double().cpu())
        tell(min(1.0, (start + step) / len(batch)), "Reading neutral text")
    return torch.cat(kl, 1), torch.cat(nll, 1)
