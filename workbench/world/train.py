"""Training of the two shipped models: from a seed, resumable, the same bits on the same machine."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.models.backpack.network import BackpackConfig, BackpackNetwork
from workbench.world.corpus import Stream, separator_of
from workbench.world.tokenizer import save_tokenizer, train_tokenizer

Which = Literal["gpt", "backpack"]
FOLDER = {"gpt": "retouch-gpt", "backpack": "retouch-backpack"}
N_CTX = 256


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run; `steps` is its planned end, which the learning rate falls towards."""

    which: Which
    steps: int
    seed: int = 0
    d_model: int = 192
    n_layer: int = 6
    n_head: int = 6
    n_tokens: int = 2048
    lr: float = 2e-3
    warmup: int = 100
    decay_share: float = 0.3
    phases: str = "circuits:700,everything"
    earlier: str = ""

    def lr_at(self, step: int) -> float:
        """Warm up linearly, hold, then fall linearly to 2 % over the last `decay_share` of the steps.

        `earlier` names cycles that were cut short: `3700:0.22@3450` fell as if to end at 3700 and was cut at 3450,
        where the next cycle warms up again.
        """
        start = 0
        for cycle in filter(None, self.earlier.split(",")):
            shape, _, cut = cycle.partition("@")
            end, _, share = shape.partition(":")
            if step < int(cut):
                return self._in_cycle(step, start, int(end), float(share))
            start = int(cut)
        return self._in_cycle(step, start, self.steps, self.decay_share)

    def _in_cycle(self, step: int, start: int, end: int, share: float) -> float:
        left = (end - step) / (share * (end - start))
        return self.lr * min(1.0, (step - start + 1) / self.warmup, max(0.02, left))


def fresh_model(recipe: Recipe, tokenizer: Tokenizer) -> nn.Module:
    """Return the network of a recipe with weights drawn from its seed."""
    torch.manual_seed(recipe.seed)
    n_vocab, separator = tokenizer.get_vocab_size(), separator_of(tokenizer)
    if recipe.which == "backpack":
        config = BackpackConfig(vocab_size=n_vocab, n_positions=N_CTX, n_embd=recipe.d_model, n_layer=recipe.n_layer, n_head=recipe.n_head)
        return BackpackNetwork(config).init_weights(recipe.seed)
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=n_vocab, n_positions=N_CTX, n_embd=recipe.d_model, n_layer=recipe.n_layer, n_head=recipe.n_head,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=separator, eos_token_id=separator,
            pad_token_id=separator,
            activation_function="gelu_pytorch_tanh",  # gelu_new's law in one fused kernel: a quarter off each step
        )
    )  # fmt: skip


def logits_of(model: nn.Module, ids: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits of either model."""
    if isinstance(model, BackpackNetwork):
        return model(ids)
    return cast(Tensor, model(ids, use_cache=False).logits)


def export_model(model: nn.Module, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a Hugging Face folder in half precision, without touching the model."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, BackpackNetwork):
        model.save_folder(folder)
        weights = folder / "model.safetensors"
        half = {name: value.half() for name, value in load_file(weights).items()}
        save_file(half, weights, metadata={"format": "pt"})
    else:
        from transformers import GPT2LMHeadModel

        config = cast(GPT2LMHeadModel, model).config
        copy = GPT2LMHeadModel(config).half()
        copy.load_state_dict(model.state_dict())
        copy.save_pretrained(folder)
    save_tokenizer(tokenizer, folder, N_CTX)


class TrainingRun:
    """A training run in a folder: tokenizer, recipe, newest checkpoint and loss curve."""

    def __init__(self, recipe: Recipe, folder: Path, tokenizer: Tokenizer | None = None) -> None:
        self.recipe, self.folder = recipe, folder
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "tokenizer.json"
        if tokenizer is None:
            tokenizer = Tokenizer.from_file(str(kept)) if kept.exists() else train_tokenizer(recipe.seed)
        self.tokenizer = tokenizer
        self.tokenizer.save(str(kept))
        self.model = fresh_model(recipe, tokenizer)
        self.optimizer = torch.optim.AdamW(_groups(self.model), lr=recipe.lr, betas=(0.9, 0.98), fused=True)
        self.stream = Stream(tokenizer, recipe.seed, recipe.phases, recipe.n_tokens, N_CTX)
        self.step, self.seconds = 0, 0.0
        self.curve: list[tuple[int, float]] = []
        if (folder / "checkpoint.pt").exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.folder / "checkpoint.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.curve = [(int(a), float(b)) for a, b in state["curve"]]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all, and the loss curve beside it."""
        state = {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step,
            "seconds": self.seconds, "curve": self.curve,
        }  # fmt: skip
        part = self.folder / "checkpoint.part"
        torch.save(state, part)
        os.replace(part, self.folder / "checkpoint.pt")
        (self.folder / "training.json").write_text(json.dumps(self.account(), indent=1) + "\n")

    def account(self) -> dict[str, object]:
        """Return the recipe, what the run cost so far and its loss curve (one mean per 20 steps)."""
        tokens = self.step * self.recipe.n_tokens
        return {
            "recipe": asdict(self.recipe),
            "steps_done": self.step,
            "tokens": tokens,
            "seconds": round(self.seconds, 1),
            "tokens_per_second": round(tokens / max(self.seconds, 1e-9), 1),
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "curve": [[step, round(loss, 4)] for step, loss in self.curve],
        }

    def advance(self) -> float:
        """Take one step and return its loss, nats per token."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr_at(self.step)
        ids = self.stream.batch(self.step)
        logits = logits_of(self.model, ids)[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def train(self, until: int | None = None, save_every: float = 180.0, tell: Callable[[str], None] = print) -> None:
        """Train to the end of the recipe (or to a step), with a progress line every 20 steps."""
        signal.signal(signal.SIGTERM, _stop)
        end = self.recipe.steps if until is None else min(until, self.recipe.steps)
        saved, recent = time.monotonic(), []
        self.model.train()
        while self.step < end and not _STOPPED:
            started = time.monotonic()
            recent.append(self.advance())
            self.seconds += time.monotonic() - started
            if self.step % 20 == 0:
                mean = sum(recent) / len(recent)
                self.curve.append((self.step, mean))
                recent = []
                tell(self._line(mean))
            if time.monotonic() - saved > save_every:
                self.save()
                saved = time.monotonic()
        self.save()

    def _line(self, loss: float) -> str:
        done = self.step / self.recipe.steps
        speed = self.step * self.recipe.n_tokens / self.seconds
        left = (self.recipe.steps - self.step) * self.recipe.n_tokens / speed / 60
        bar = "#" * int(24 * done)
        return f"[{bar:<24}] {self.step}/{self.recipe.steps} loss {loss:.3f} {speed:.0f} tok/s {left:.0f} min left"


_STOPPED: list[int] = []


def _stop(number: int, _frame: object) -> None:
    """Let the running step end and the checkpoint be written before the process goes."""
    _STOPPED.append(number)


def ship(run: TrainingRun, folder: Path) -> None:
    """Write the model of a run, with the account of its training beside it."""
    export_model(run.model, run.tokenizer, folder)
    (folder / "training.json").write_text(json.dumps(run.account(), indent=1) + "\n")


def opened(folder: Path) -> TrainingRun:
    """Return the run in a folder, at its newest checkpoint."""
    recipe = Recipe(**json.loads((folder / "training.json").read_text())["recipe"])
    return TrainingRun(recipe, folder)


def _groups(model: nn.Module) -> list[dict[str, object]]:
    """Decay matrices; leave embeddings, norms and biases alone."""
    decayed = [p for n, p in model.named_parameters() if p.ndim == 2 and "wte" not in n and "wpe" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim < 2 or "wte" in n or "wpe" in n]
    return [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
