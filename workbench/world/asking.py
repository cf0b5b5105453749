"""Ask a trained model: likeliest next words, probabilities of answers, greedy text. Plain torch, no workbench core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.world.corpus import separator_of
from workbench.world.train import logits_of


@dataclass(frozen=True)
class Model:
    """A network with its tokenizer; every prompt opens with the separator."""

    network: nn.Module
    tokenizer: Tokenizer

    def ids(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        return [separator_of(self.tokenizer), *self.tokenizer.encode(text, add_special_tokens=False).ids]

    def word(self, text: str) -> int:
        """The first token of an answer."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids[0]

    @torch.no_grad()
    def next_log_probs(self, prompts: Sequence[str], rows: int = 64) -> Float[Tensor, "prompt d_vocab"]:
        """Log-probabilities of the token after each prompt; padding stands on the right, where causal models ignore it."""
        found: list[Tensor] = []
        for start in range(0, len(prompts), rows):
            ids = [self.ids(text) for text in prompts[start : start + rows]]
            width = max(len(row) for row in ids)
            logits = logits_of(self.network, torch.tensor([row + [0] * (width - len(row)) for row in ids]))
            last = torch.tensor([len(row) - 1 for row in ids])
            found.append(F.log_softmax(logits[torch.arange(len(ids)), last].float(), dim=-1))
        return torch.cat(found)

    def top(self, prompts: Sequence[str]) -> list[int]:
        """The likeliest next token of each prompt."""
        return [int(i) for i in self.next_log_probs(prompts).argmax(dim=-1)]

    def prefers(self, prompts: Sequence[str], right: Sequence[str], wrong: Sequence[str]) -> list[float]:
        """p(right) / (p(right) + p(wrong)) of each prompt, by the first token of the answers."""
        log_probs = self.next_log_probs(prompts)
        rows = torch.arange(len(prompts))
        a = log_probs[rows, torch.tensor([self.word(text) for text in right])]
        b = log_probs[rows, torch.tensor([self.word(text) for text in wrong])]
        return [float(p) for p in torch.sigmoid(a - b)]

    @torch.no_grad()
    def nll(self, texts: Sequence[str]) -> list[tuple[float, int]]:
        """Summed negative log-likelihood of each text after the separator, and its number of tokens."""
        found: list[tuple[float, int]] = []
        for text in texts:
            ids = torch.tensor([self.ids(text)[:256]])
            logits = logits_of(self.network, ids)[0, :-1].float()
            found.append((float(F.cross_entropy(logits, ids[0, 1:], reduction="sum")), ids.shape[1] - 1))
        return found

    @torch.no_grad()
    def greedy(self, prompt: str, n: int = 40) -> str:
        """Continue a prompt greedily, up to the separator."""
        ids = self.ids(prompt)
        separator, start = ids[0], len(ids)
        for _ in range(n):
            new = int(logits_of(self.network, torch.tensor([ids[-256:]]))[0, -1].argmax())
            if new == separator:
                break
            ids.append(new)
        return self.tokenizer.decode(ids[start:])
