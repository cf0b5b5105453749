"""One sentence for each technical word that pages show; whatever is drawn through the frame has them as its tooltip."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What stands behind the bar are other forms of the word.
_SENTENCES = """
activation|activations|hidden state|hidden states: The numbers inside the model at one layer and token, which an edit reads and changes.
attention sink|sinks: A token of very large norm, often the first, that heads attend to without reading anything there.
attribution: How much of an answer's score each part of the model is answerable for, by its gradient.
AUC: The chance that a measure ranks a random good answer above a random bad one; 0.5 is guessing.
ball|balls: A limit on the loss on neutral text within which methods are compared.
base|untouched model|unedited: The model as it was loaded, with nothing turned on.
circuit|circuits: The few parts of a model, and what they pass on, that carry one behaviour.
coherent: Still within limits of damage on neutral text: KL, perplexity and repetition.
compat|as released|official-compat: What the authors' released code does where it differs from their paper.
confound|confounds: Something else than what is meant that also tells good answers from bad ones, such as their length.
cosine|cos: How far two directions point the same way: 1 the same, 0 at right angles, −1 opposite.
dose|doses: How much of an edit is applied: 0 is the untouched model, 1 the edit as fitted, 2 twice as much.
gate|gates|gated: A switch inside an edit that leaves it off where the text is about other things.
greedy: Always writing the likeliest next token, so the same prompt gives the same text.
held-out|held out|test rows|split test: Rows that no fit and no choice has seen, so that a score on them is not flattery.
interval|intervals|95 %|\\\\?\\[[\\d.%-]+, [\\d.%-]+\\\\?\\]: In square brackets: where the true value lies in 95 of 100 such measurements.
imbalance: How much likelier one side of a pair is than the other, whichever it is; 0 is even.
KL: How far the next-token probabilities moved away from the untouched model's; 0 is not at all.
lane|lanes: One column of a comparison: the untouched model, an edit or several at a dose, or a prompt.
layer|layers: One of the steps that a model takes one after the other from a prompt to the next token.
logit|logits: The score of a token before it is turned into a probability.
logit lens: Reading after each layer which token the model would write if it stopped there.
log-probability|log p|Δ log-probability: The logarithm of a probability, so that products of many small numbers become sums; 0 is certain.
LoRA|low-rank|rank: A change of a matrix that moves only along a few directions; the rank is how many.
margin: How much likelier the best true answer is than the best false one, as a logarithm; above 0 it wins.
MC1: The share of questions on which the best answer is likelier than every false one.
MC2|P\\(truth\\): The probability of all true answers among all listed answers.
MC3: The mean share of true answers that are likelier than every false one.
n: How many rows, texts or tokens a number is over.
nats|nats/token: The unit of logarithms of probability; 0.7 nats halve a probability.
neutral text|neutral texts: Text that has nothing to do with what the edit is for and that should stay as it is.
patching: Putting the activation of one run into another, to see what the answer hangs on.
per token: Divided by the number of tokens, so that long answers are not at a disadvantage.
perplexity|perplexity ratio: How much more surprised the edited model is by ordinary text than before; 1 is no more.
placebo|placebos|random edit|noise of that size: A random edit of the same size and rank: what it moves, any disturbance of that size moves.
prefix|before every prompt: A sentence that stands before what is asked; it costs tokens at every use, and no fit.
probe|probes: A small classifier that reads something off the model's activations.
repetition|repetition of 4-grams: The share of four-token sequences that a text says again; it rises when a model gets stuck.
residual stream: The running sum of all layers' outputs, which every later layer reads.
scree|spectrum|spectra: How much each direction counts that a fit found, the largest first.
seed: The start of the random numbers; the same seed gives the same result.
sense|senses|sense vectors: The several meanings that a Backpack keeps of each word, each a vector.
shots: Solved examples before the prompt, as a model is often shown what is wanted.
shuffled|shuffled control|shuffled sides: The same method fitted with good and bad answers mixed up, which should gain nothing.
split|splits: Which part a row plays: fit is learned from, validation is chosen by, test is scored once.
system message: What a chat model is told before the user says anything.
target's texts: What the target side of a set of prompts says; an edit should make it likelier than what the other side says.
temperature: How freely the next token is drawn: 0 always takes the likeliest, 1 draws as the model says.
template: The marks with which a chat model was taught to tell who speaks.
token|tokens: A piece of text, a word or a part of one, that a model reads and writes at once.
top k: Drawing only among the k likeliest tokens.
top p: Drawing only among the likeliest tokens that together have probability p.
validation: Rows that choose among settings and are not used to report the result.
verdict: What the numbers say the edit does, weighed against the untouched model and a placebo.
"""


def _read() -> dict[str, tuple[re.Pattern[str], str]]:
    found: dict[str, tuple[re.Pattern[str], str]] = {}
    for line in _SENTENCES.strip().splitlines():
        names, _, sentence = line.partition(": ")
        forms = names.split("|")
        any_form = "|".join(form if "\\" in form else re.escape(form) for form in sorted(forms, key=len, reverse=True))
        # Abbreviations are told from words by their capitals: KL, AUC, MC1, n.
        exact = forms[0].upper() == forms[0] or len(forms[0]) == 1
        found[forms[0]] = re.compile(rf"(?<![\w-])(?:{any_form})(?!\w)", 0 if exact else re.IGNORECASE), sentence
    return found


_KNOWN = _read()
TERMS = {term: sentence for term, (_, sentence) in _KNOWN.items()}
"""What each word means, in one sentence."""


def terms_in(*texts: str) -> list[str]:
    """The technical words of some texts, in the order in which they come."""
    whole = " ".join(texts)
    at = {term: match.start() for term, (pattern, _) in _KNOWN.items() if (match := pattern.search(whole))}
    return sorted(at, key=at.__getitem__)


def tip(*texts: str) -> str | None:
    """The tooltip of some texts: a line a technical word; None where there is none."""
    return "\n\n".join(f"**{term}**: {TERMS[term]}" for term in terms_in(*texts)) or None


def columns(names: Iterable[str]) -> dict[str, str]:
    """The tooltips of a table's columns, by name, for those that have one."""
    return {name: told for name in names if (told := tip(name))}
