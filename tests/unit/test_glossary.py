"""Each technical word that pages show has one sentence, and what is drawn through the frame carries it as its tooltip."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pages._ui.kit import glossary
from pages._ui.kit.glossary import TERMS, columns, terms_in, tip

ROOT = Path(__file__).parents[2]
# Words that a newcomer cannot know; written down here apart from the glossary, as the words of the walk through every page were.
TECHNICAL = (
    """
placebo|interval|KL|MC1|MC2|MC3|perplexity|dose|held-out|nats|greedy|seed|split|margin|shuffled|logit lens|rank|AUC|temperature|token|layer
probe|gate|patching|attribution|circuit|spectra|residual stream|senses|shots|system message|template|validation|verdict|neutral text|lane
cosine|coherent|repetition|log-probability|balls|imbalance|top k|top p|confound|sinks|activations|scree|as released|logits|Jacobian lens
""".strip()
    .replace("\n", "|")
    .split("|")
)


def shown(path: Path) -> str:
    """The texts that a file of the pages holds, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    holders = (ast.Module, ast.FunctionDef, ast.ClassDef)
    told = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, holders) and isinstance(node.body[0], ast.Expr)}
    found = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
    ]
    return "\n".join(found)


def test_every_technical_word_that_a_page_shows_has_one_sentence() -> None:
    texts = {path: shown(path) for top in ("pages", "workbench/figures", "workbench/evaluate") for path in (ROOT / top).rglob("*.py")}
    whole = "\n".join(texts.values())
    used = [word for word in TECHNICAL if re.search(rf"(?<!\w){re.escape(word)}", whole, re.IGNORECASE)]
    assert len(used) > 40, "the list is of words that pages show"
    assert [word for word in used if not terms_in(word)] == []


def test_every_score_that_pages_show_is_told() -> None:
    metrics = re.findall(
        r'(?:mean|share)_metric\(\s*"\w+", "([^"]+)"', "".join(p.read_text() for p in (ROOT / "workbench/evaluate").glob("*.py"))
    )
    from workbench.evaluate.benefit import _CHOICES

    titles = [*metrics, *(title for title, _ in _CHOICES.values() if "MC" in title or "Margin" in title)]
    assert len(titles) > 12
    bare = [title for title in titles if not terms_in(title)]
    assert bare == ["First of the pair preferred", "Labels right", "P(label)"], "plain words need no sentence"


@pytest.mark.parametrize("term", TERMS)
def test_a_word_is_told_in_one_sentence_that_ends(term: str) -> None:
    told = TERMS[term]
    assert told[0].isupper() and told.endswith(".") and not re.search(r"\. [A-Z]", told) and len(told) < 140
    assert term in terms_in(f"so {term} is"), "the word itself is found in a text"


def test_words_are_found_whole_in_the_order_in_which_they_come() -> None:
    assert terms_in("The placebo at dose 2 moves KL by 0.1 nats/token") == ["placebo", "dose", "KL", "nats", "token"]
    assert terms_in("kl of an overdose") == []
    assert tip("Nothing to tell here") is None and tip("a placebo") == f"**placebo**: {TERMS['placebo']}"
    assert columns(["name", "dose"]) == {"dose": tip("dose")}


def test_no_page_has_a_glossary_of_its_own() -> None:
    others = [
        path
        for path in (ROOT / "pages").rglob("*.py")
        if path.name != "glossary.py" and "A random edit of the same size" in path.read_text()
    ]
    assert others == [] and Path(str(glossary.__file__)).parent.name == "kit"
