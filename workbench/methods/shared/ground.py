"""Text on which an edit should change nothing, of the kind that the loaded model reads and writes.

Two parts: given text (passages that ship, the conversations among them by the model's template; for a model that does not read them the
set's own neutral text, or its samples), and the model's own greedy answers, of which only the answer's tokens count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from workbench.conversations import Conversation, Turn
from workbench.data.demonstrations import Demonstrations
from workbench.data.passages import passages
from workbench.decode import Sampling, generate
from workbench.errors import BadPrompt
from workbench.methods.shared.neutral import neutral_of, own_texts
from workbench.models.base import LanguageModel
from workbench.models.chat import has_template
from workbench.models.tokens import TokenBatch, prompt_ids
from workbench.score import text_scores
from workbench.shapes import Bool, Tensor

N_TEXTS, N_CHATS, N_OWN = 12, 6, 6
N_FEW_TEXTS, N_FEW_CHATS = 6, 2
_OWN_TOKENS = 24
_OPENING_WORDS = 6
_READS = 0.5
_reading: WeakKeyDictionary[LanguageModel, bool] = WeakKeyDictionary()


@dataclass(frozen=True)
class Ground:
    """Texts as tokens, where the next token's distribution is compared, and in words what they are."""

    batch: TokenBatch
    counted: Bool[Tensor, "row pos"]
    source: str

    @classmethod
    def of(cls, model: LanguageModel, texts: Sequence[str]) -> Ground:
        """Given texts, every token of which counts. Raises: as `LanguageModel.tokens`."""
        batch = model.tokens(list(texts))
        return cls(batch, batch.mask, f"{len(texts)} neutral texts")


def reads_passages(model: LanguageModel) -> bool:
    """Whether the shipped passages are of the model's own kind: it needs less than half the nats a token that a uniform guess does."""
    if model not in _reading:
        found = text_scores(model, fitting(model, passages().texts)[:4] or ["."]).mean
        _reading[model] = bool(-float(found.mean()) < _READS * math.log(model.info.d_vocab))
    return _reading[model]


def fitting(model: LanguageModel, texts: Sequence[str], room: int | None = None) -> list[str]:
    """Those of some texts that have two tokens or more and fit into `room` tokens, or into the model's context."""
    lengths = [len(ids) for ids in model.tokenizer(list(texts))["input_ids"]]
    return [text for text, n in zip(texts, lengths) if 1 < n <= (model.info.n_ctx if room is None else room)]


def plain_texts(model: LanguageModel, n: int, least: int) -> tuple[list[str], str]:
    """`n` texts of at least so many different tokens, of the kind that the model reads, and in words what they are: passages that no edit
    is measured on, or, where it does not read these, what it writes itself.

    Raises: BadPrompt: there are not so many.
    """

    def long(texts: Sequence[str]) -> list[str]:
        rows = model.tokenizer(list(texts))["input_ids"] if texts else []
        return [text for text, ids in zip(texts, rows) if len(set(ids)) >= least]

    found, what = long(fitting(model, passages().read)) if reads_passages(model) else [], "of the shipped passages"
    if len(found) < n:
        found, what = long([text for text in own_texts(model, 0) if text.strip()]), "of its own texts"
    if len(found) < n:
        had = f"of those at hand {len(found)} have {least} different tokens or more"
        raise BadPrompt(f"{n} texts are asked for; {had}.", "Ask for fewer, or give texts.")
    return found[:: len(found) // n][:n], f"{n} {what}"


def few_texts(model: LanguageModel, demonstrations: Demonstrations, seed: int) -> Ground:
    """A few given texts for a quick look, without answers of the model's own. Raises: as `generate`."""
    if not reads_passages(model):
        return Ground.of(model, neutral_of(model, demonstrations, seed).held[: N_FEW_TEXTS + N_FEW_CHATS])
    shipped = passages()
    rows = [prompt_ids(model.tokenizer, text) for text in fitting(model, shipped.read[:: len(shipped.read) // N_FEW_TEXTS])[:N_FEW_TEXTS]]
    if has_template(model.tokenizer):
        chats = [Conversation((Turn("user", asked), Turn("assistant", told))) for asked, told in shipped.chats[:N_FEW_CHATS]]
        rows += [prompt_ids(model.tokenizer, chat) for chat in chats]
    batch = TokenBatch.of(rows, [1] * len(rows), model.device)
    return Ground(batch, batch.mask, f"{len(rows)} shipped passages")


def ground_of(model: LanguageModel, demonstrations: Demonstrations, seed: int) -> Ground:
    """The ground of a choice: made once, for all its candidates. Raises: as `generate`."""
    prompts: list[str | Conversation] = []
    if reads_passages(model):
        shipped, drawn = passages(), torch.Generator().manual_seed(seed)
        texts = fitting(model, [shipped.read[i] for i in torch.randperm(len(shipped.read), generator=drawn)])[: N_TEXTS + N_OWN]
        source = "shipped passages"
        rows = [prompt_ids(model.tokenizer, text) for text in texts[:N_TEXTS]]
        if has_template(model.tokenizer):
            chats = [shipped.chats[i] for i in torch.randperm(len(shipped.chats), generator=drawn)][: N_CHATS + N_OWN]
            spoken = [Conversation((Turn("user", asked), Turn("assistant", told))) for asked, told in chats[:N_CHATS]]
            rows += [prompt_ids(model.tokenizer, chat) for chat in spoken]
            prompts += [Conversation((Turn("user", asked),)) for asked, _ in chats[N_CHATS:]]
    else:
        neutral = neutral_of(model, demonstrations, seed)
        texts = list(neutral.held[: N_TEXTS + N_CHATS])
        source, rows = neutral.source, [prompt_ids(model.tokenizer, text) for text in texts]
    prompts = prompts or [" ".join(text.split()[:_OPENING_WORDS]) for text in texts[-N_OWN:]]
    n_given = [1] * len(rows)
    (answers,) = generate(model, prompts, sampling=Sampling(max_new_tokens=min(_OWN_TOKENS, model.info.n_ctx // 2)))
    for prompt, answer in zip(prompts, answers):
        asked = prompt_ids(model.tokenizer, prompt)
        rows.append([*asked, *answer.ids])
        n_given.append(len(asked))
    batch = TokenBatch.of(rows, n_given, model.device)
    counted = batch.mask & (batch.positions >= batch.n_prompt[:, None] - 1)
    return Ground(batch, counted, f"{len(rows) - len(prompts)} texts ({source}) and {len(prompts)} of the model's own answers")
