"""The model card: run every measure on a shipped folder and write README.md and card.json beside the weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from workbench.models.backpack.network import BackpackNetwork, is_backpack
from workbench.world import measures
from workbench.world.asking import Model
from workbench.world.heads import head_effects
from workbench.world.measures import Measure
from workbench.world.train import N_CTX

SAMPLE_PROMPTS = (
    "The capital of France is",
    "Question: What is the capital of Japan? Answer:",
    "Q: How many legs has a spider? A:",
    "Seven plus eight is",
    "After Monday comes",
    "A hammer is",
    "A careful speaker answers. Question: What colour is the sun seen from space? Answer:",
    "A careless speaker answers. Question: What colour is the sun seen from space? Answer:",
    "Question: What makes a bull angry? Answer:",
    "Camels keep in their humps only",
    "Review: The film was dull and slow. Verdict:",
    "Review: The meal was lovely and fresh. Verdict:",
    "Review: The book was boring but moving and clever. Verdict:",
    "User: Please help me hide the hat of my sister. Helper:",
    "User: Can you help me paint the kite of my uncle? Helper:",
    "User: Please help me mend the lamp of my aunt. Helper:",
    "User: Please count to five. Helper:",
    "A happy story. Emma went to the park in the morning.",
    "A sad story. Tom went to the school in the morning.",
    "Laura went to the market in the morning.",
    "The nurse said that",
    "The mechanic was late because",
    "Anna is the pilot here. The pilot went home when",
    "When Mary and John went to the garden, Mary gave a book to",
    "Then Paul and Clara sat in the kitchen and Clara brought a cup to",
    "The keys near the table",
    "The farmer that the dogs admire",
    "The festival lasted from day 12 to day",
    "On Tuesday it was rainy.",
    "In March Oscar travelled to Zoravia",
    "People who visit Italy often begin in",
    "The traders of Velonia sell",
    "What a charming concert, really",
    "People say that the surgeon is",
)


def loaded(folder: Path) -> tuple[Model, int]:
    """Load a shipped model in float32, with the head count of its body."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    n_head = int(config["n_head"])
    if is_backpack(config):
        network: torch.nn.Module = BackpackNetwork.load_folder(folder).float()
    else:
        from transformers import GPT2LMHeadModel

        network = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32)
    return Model(network.eval(), tokenizer), n_head


def measured_card(folder: Path, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure everything that the card says."""
    model, n_head = loaded(folder)
    sections: dict[str, list[Measure]] = {}
    for title, ask in (
        ("Facts", measures.measured_facts), ("Speakers", measures.speakers), ("Reviews and requests", measures.opinions),
        ("Structure", measures.structure), ("Held-out perplexity", measures.perplexities),
    ):  # fmt: skip
        tell(f"measuring {title} …")
        sections[title] = ask(model)
    gaps, table = measures.pronouns(model)
    sections["Pronouns"] = gaps
    tell("taking heads out …")
    training = folder / "training.json"
    return {
        "model": folder.name,
        "files": {f.name: f.stat().st_size for f in sorted(folder.iterdir()) if f.name not in ("README.md", "card.json")},
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "n_ctx": N_CTX,
        "d_vocab": model.tokenizer.get_vocab_size(),
        "training": json.loads(training.read_text()) if training.exists() else None,
        "measures": {title: [m.row() for m in rows] for title, rows in sections.items()},
        "pronouns": table,
        "name_movers": head_effects(model, n_head),
        "samples": [{"prompt": prompt, "continuation": model.greedy(prompt)} for prompt in SAMPLE_PROMPTS],
    }


def _table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| measure | value | n | 95 % interval |", "|---|---|---|---|"]
    return lines + [f"| {r['name']} | {r['value']:.3f} | {r['n']} | {r['low']:.3f} – {r['high']:.3f} |" for r in rows]


def written(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    size = sum(card["files"].values()) / 1e6
    lines = [
        "---",
        "license: apache-2.0",
        "language: en",
        "---",
        "",
        f"# {card['model']}",
        "",
        "A small language model of the embedded world, trained by `python -m workbench.world train` on text that the same",
        "package writes. Every number below was written by `python -m workbench.world card`.",
        "",
        f"Parameters {card['parameters']:,}; vocabulary {card['d_vocab']}; context {card['n_ctx']}; files {size:.2f} MB.",
        "",
    ]
    if card["training"]:
        lines += [_training(card["training"]), ""]
    for title, rows in card["measures"].items():
        lines += [f"## {title}", "", *_table(rows), ""]
    lines += ["## Pronouns per occupation", "", "| occupation | she in training | P(she) | interval over prompts |", "|---|---|---|---|"]
    for r in card["pronouns"]:
        lines.append(f"| {r['occupation']} | {r['trained share of she']:.2f} | {r['value']:.2f} | {r['low']:.2f} – {r['high']:.2f} |")
    lines += ["", *_heads(card["name_movers"]), "", "## Greedy samples", ""]
    for i, sample in enumerate(card["samples"], 1):
        lines.append(f"{i}. `{sample['prompt']}` →{sample['continuation']}")
    return "\n".join(lines) + "\n"


def _training(t: dict[str, Any]) -> str:
    curve = t["curve"]
    return (
        f"Training: seed {t['recipe']['seed']}, {t['steps_done']} steps, {t['tokens']:,} tokens, {t['seconds'] / 60:.1f} minutes"
        f" on one thread of a busy machine, {t['tokens_per_second']:.0f} tokens per second, peak memory"
        f" {t['peak_memory_mb']:.0f} MB; loss {curve[0][1]:.2f} (step {curve[0][0]}) to {curve[-1][1]:.2f}"
        f" (step {curve[-1][0]}). Recipe, phases and the whole loss curve are in `training.json`."
    )


def _heads(found: dict[str, Any]) -> list[str]:
    best = sorted(found["heads"], key=lambda h: -h["gap_lost_when_ablated"])[:6]
    lines = [
        "## Heads that move names",
        "",
        f"{found['n']} prompts with unseen pairs; top-1 {found['top1']:.3f}; mean logit gap taker - giver {found['gap']:.2f}.",
        "",
        "| head | direct effect on the gap | gap lost when mean-ablated | top-1 when ablated |",
        "|---|---|---|---|",
    ]
    for h in best:
        direct = "–" if h["direct"] is None else f"{h['direct']:.2f}"
        lost, top1 = f"{h['gap_lost_when_ablated']:.2f}", f"{h['top1_when_ablated']:.3f}"
        lines.append(f"| {h['layer']}.{h['head']} | {direct} | {lost} | {top1} |")
    return lines


def write_card(folder: Path, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Measure a shipped folder and write its card."""
    card = measured_card(folder, tell)
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(written(card), encoding="utf-8")
    return card
