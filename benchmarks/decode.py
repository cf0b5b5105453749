"""Decoding: tokens per second as ratios within one run.

    python -m benchmarks.decode [MODEL] [--tokens 60] [--rounds 9]
    python -m benchmarks.decode --random --layers 16 --d-model 2048 --tokens 12 --rounds 3       # 1B shape, minutes on two cores

Prints: our loop without edits against Hugging Face generate(); our loop with one edit of each kind against without; six lanes against
one. `--random` makes a model of that shape with random weights in a temporary folder: the cost does not depend on the values.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.timing import paired, void
from workbench.data.sources import read
from workbench.decode import Sampling, generate
from workbench.edits.base import Edit
from workbench.methods.directions.mean_difference import AdditionEdit
from workbench.methods.registry import header
from workbench.models.base import LanguageModel
from workbench.models.catalog import load
from workbench.resources import EMBEDDED, SETS


def edits(model: LanguageModel, n: int, layer: int | None = None) -> list[Edit]:
    """Small random additions at one layer (none: in the middle of the network): the cost does not depend on the values."""
    from workbench.data.demonstrations import Demonstrations
    from workbench.methods.directions.mean_difference import MeanDifferenceConfig

    layer = model.info.n_layers // 2 if layer is None else layer
    made: list[Edit] = []
    for i in range(n):
        vector = 0.01 * torch.randn(model.info.d_model, generator=torch.Generator().manual_seed(i))
        head = header("mean_difference", model, Demonstrations(()), MeanDifferenceConfig(), i, {"layers": [layer]})
        made.append(AdditionEdit(head, {layer: vector}))
    return made


FITS: dict[str, tuple[str, dict[str, object]]] = {
    "mean_difference": ("truthfulness", {}),
    "sea": ("truthfulness", {"k_plus": 20, "k_minus": 20}),
    "sea, gate": ("truthfulness", {"k_plus": 20, "k_minus": 20, "gate": "hard"}),
    "hpr": ("truthfulness", {"epochs": 1}),
    "tarot": ("agreement", {"budget": 10, "n_init": 4, "n_train": 4, "n_val": 4, "shots": "zero", "optimizer": "random"}),
    "lora": ("new-facts", {"epochs": 1, "n_neutral": 2}),
}


def fitted(model: LanguageModel) -> dict[str, Edit]:
    """One quick fit of each method: what an edit does costs the same, however well it was fitted, if its ranks are those of real fits."""
    from workbench.methods import get

    made: dict[str, Edit] = {}
    for name, (data, knobs) in FITS.items():
        method, rows = get(name.partition(",")[0]), read(SETS / f"{data}.jsonl").demonstrations
        few = rows.with_rows([*rows.split("fit").rows[:40], *rows.split("validation").rows[:8], *rows.split("test").rows[:4]])
        made[name] = method.fit(model, few, method.configure(knobs)).edit
    return made


def random_model(folder: Path, layers: int, d_model: int) -> Path:
    """A Llama of some shape with random weights and the embedded model's tokenizer, as a folder."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["embedded"])
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=d_model, intermediate_size=4 * d_model, num_hidden_layers=layers, num_attention_heads=d_model // 64,
        num_key_value_heads=max(1, d_model // 256), max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="embedded")
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--random", action="store_true", help="a Llama of random weights instead of MODEL")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--d-model", type=int, default=2048)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = load(str(random_model(Path(folder), args.layers, args.d_model)) if args.random else args.model)
    made = fitted(model)
    model.tokenizer.eos_token_id, end = None, model.tokenizer.eos_token_id  # all rows run to the same length
    model.network.generation_config.eos_token_id = None  # pyright: ignore
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
        "base_time_over_edited (speed ratio, aim ≥ 0.95)": {
            name: paired(ours([()]), ours([(edit,)]), args.rounds) for name, edit in made.items()
        },
        "six_lanes_time_over_one (aim ≤ 1.35)": paired(ours(lanes), ours([()]), args.rounds),
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
