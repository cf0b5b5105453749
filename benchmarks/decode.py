"""Decoding: tokens per second as ratios within one run.

    python -m benchmarks.decode [MODEL] [--tokens 60] [--rounds 9]

Prints: our loop without edits against Hugging Face generate(); our loop with one edit against without; six lanes against one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from workbench.decode import Sampling, generate
from workbench.edits.base import Edit
from workbench.methods.mean_difference import AdditionEdit
from workbench.methods.registry import header
from workbench.models.base import LanguageModel
from workbench.models.catalog import load


def edits(model: LanguageModel, n: int) -> list[Edit]:
    """Small random additions in the middle of the network: the cost does not depend on the values."""
    from workbench.data.demonstrations import Demonstrations
    from workbench.methods.mean_difference import MeanDifferenceConfig

    layer = model.info.n_layers // 2
    made: list[Edit] = []
    for i in range(n):
        vector = 0.01 * torch.randn(model.info.d_model, generator=torch.Generator().manual_seed(i))
        head = header("mean_difference", model, Demonstrations(()), MeanDifferenceConfig(), i, {"layers": [layer]})
        made.append(AdditionEdit(head, {layer: vector}))
    return made


def paired(first: Callable[[], None], second: Callable[[], None], rounds: int) -> dict[str, float]:
    """Median of time(first) / time(second), run in turn so that drift of the machine hits both."""
    first(), second()
    ratios: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        first()
        middle = time.perf_counter()
        second()
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="embedded")
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    model = load(args.model)
    model.tokenizer.eos_token_id, end = None, model.tokenizer.eos_token_id  # all rows run to the same length
    prompts = ["Question: What is the capital of France? Answer:"]
    how = Sampling(max_new_tokens=args.tokens)
    batch = model.tokens(prompts)

    def hugging_face() -> None:
        with torch.no_grad():
            model.network.generate(  # pyright: ignore
                input_ids=batch.ids, attention_mask=batch.mask.long(), max_new_tokens=args.tokens,
                min_new_tokens=args.tokens, do_sample=False, pad_token_id=end,
            )  # fmt: skip

    def ours(stacks: list[tuple[Edit, ...]]) -> Callable[[], None]:
        return lambda: void(generate(model, prompts, stacks, how))

    five = edits(model, 5)
    lanes = [(), *((edit,) for edit in five)]
    result = {
        "model": model.info.name,
        "tokens": args.tokens,
        "hugging_face_time_over_ours (speed ratio, aim ≥ 0.9)": paired(hugging_face, ours([()]), args.rounds),
        "base_time_over_edited (speed ratio, aim ≥ 0.95)": paired(ours([()]), ours([(five[0],)]), args.rounds),
        "six_lanes_time_over_one (aim ≤ 1.35)": paired(ours(lanes), ours([()]), args.rounds),
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))


def void(_: object) -> None:
    """Drop a result."""


if __name__ == "__main__":
    main()
