"""Facts of what a learner looked at: lenses, heads, patching, circuits, the scope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.lessons.attempt import Attempt, FactValue, Vocabulary

if TYPE_CHECKING:
    from workbench.lenses.attention import AttentionPatterns
    from workbench.lenses.attribution import DirectAttribution
    from workbench.lenses.circuits import Circuit
    from workbench.lenses.heads import HeadScores
    from workbench.lenses.induction import InductionProof
    from workbench.lenses.logit_lens import LogitLens
    from workbench.lenses.patching import PatchingEffects

_STREAM = 0  # of `PatchingEffects.streams`: the residual stream


def add_looking(facts: Vocabulary) -> None:
    """Add them to a vocabulary."""
    _lens(facts)
    _attention(facts)
    _attribution(facts)
    _heads(facts)
    _patching(facts)
    _circuit(facts)
    _scope(facts)


def _lens(facts: Vocabulary) -> None:
    lens = "logit_lens"

    @facts.of("next", "next.answer", "The likeliest next token")
    def _(found: Sequence[tuple[str, float]], of: str) -> FactValue:
        return found[0][0].strip()

    @facts.of("next", "next.share", "Its probability")
    def _(found: Sequence[tuple[str, float]], of: str) -> FactValue:
        return found[0][1]

    @facts.of(lens, "lens.prompt", "The prompt")
    def _(found: LogitLens, of: str) -> FactValue:
        return _text(found.tokens)

    @facts.of(lens, "lens.tokens", "The number of tokens")
    def _(found: LogitLens, of: str) -> FactValue:
        return len(_said(found.tokens))

    @facts.of(lens, "lens.words", "The number of words")
    def _(found: LogitLens, of: str) -> FactValue:
        return len(_text(found.tokens).split())

    @facts.of(lens, "lens.signs", "The number of tokens that are signs")
    def _(found: LogitLens, of: str) -> FactValue:
        return sum(not _is_worded(token) for token in _said(found.tokens))

    @facts.of(lens, "lens.pieces", "The number of tokens that go on with a word")
    def _(found: LogitLens, of: str) -> FactValue:
        said = _said(found.tokens)
        return sum(one[-1:].isalnum() and other[:1].isalnum() for one, other in zip(said, said[1:]))

    @facts.of(lens, "lens.layers", "The number of layers")
    def _(found: LogitLens, of: str) -> FactValue:
        return sum(name.endswith("_pre") for name in found.entries)

    @facts.of(lens, "lens.answer", "The model's next token")
    def _(found: LogitLens, of: str) -> FactValue:
        return str(found.top_texts[0, -1, -1, 0]).strip()

    @facts.of(lens, "lens.share", "The probability of the model's next token")
    def _(found: LogitLens, of: str) -> FactValue:
        return float(found.top_probabilities[0, -1, -1, 0])

    @facts.of(lens, "lens.early", "The likeliest token before the first layer")
    def _(found: LogitLens, of: str) -> FactValue:
        return str(found.top_texts[0, 0, -1, 0]).strip()

    @facts.of(lens, "lens.decided", "The layer after which the answer leads and stays in front")
    def _(found: LogitLens, of: str) -> FactValue:
        return _decided(found)

    @facts.of(lens, "lens.half", "Half of the layers")
    def _(found: LogitLens, of: str) -> FactValue:
        return sum(name.endswith("_pre") for name in found.entries) / 2

    @facts.of(lens, "lens.lanes", "The number of lanes")
    def _(found: LogitLens, of: str) -> FactValue:
        return len(found.lanes)


def _decided(found: LogitLens) -> float:
    """The first layer from which on every later reading has the model's own answer in front; -1: the embedding has it already."""
    kept = [i for i, name in enumerate(found.entries) if not name.endswith("mid")]
    tops = [int(found.top_ids[0, i, -1, 0]) for i in kept]
    first = len(tops) - 1
    while first and tops[first - 1] == tops[-1]:
        first -= 1
    return float(first - 1)


def _attention(facts: Vocabulary) -> None:
    at = "attention"

    @facts.of(at, "attention.prompt", "The prompt")
    def _(found: AttentionPatterns, of: str) -> FactValue:
        return _text(found.tokens)

    @facts.of(at, "attention.repeats", "The number of tokens in a row that the prompt says twice")
    def _(found: AttentionPatterns, of: str) -> FactValue:
        return _repeats(_said(found.tokens))

    @facts.of(at, "attention.head", "The head that looks most as asked")
    def _(found: AttentionPatterns, of: str) -> FactValue | None:
        best = _best_kind(found, of)
        return None if best is None else best[0]

    @facts.of(at, "attention.score", "The share of its attention that goes there")
    def _(found: AttentionPatterns, of: str) -> FactValue | None:
        best = _best_kind(found, of)
        return None if best is None else best[1]


def _best_kind(found: AttentionPatterns, kind: str) -> tuple[str, float] | None:
    from workbench.lenses.head_kinds import head_kinds

    scores = head_kinds(found).get(kind)
    if scores is None or scores[0, 0, 0] != scores[0, 0, 0]:
        return None
    layer, head = divmod(int(scores[0].argmax()), scores.shape[2])
    return f"{found.layers[layer]}.{head}", float(scores[0, layer, head])


def _repeats(tokens: Sequence[str]) -> float:
    """The longest run of tokens that stands twice without overlapping itself."""
    said = [token.strip() for token in tokens]
    longest = 0
    for i in range(len(said)):
        for j in range(i + 1, len(said)):
            n = 0
            while j + n < len(said) and i + n < j and said[i + n] == said[j + n]:
                n += 1
            longest = max(longest, n)
    return float(longest)


def _attribution(facts: Vocabulary) -> None:
    at = "attribution"

    @facts.of(at, "attribution.total", "The difference between target and distractor, in logits")
    def _(found: Any, of: str) -> FactValue:
        return float(found["component"].difference[0])

    @facts.of(at, "attribution.sum", "The sum of all bars, in logits")
    def _(found: Any, of: str) -> FactValue:
        return float(found["component"].values[0].sum())

    @facts.of(at, "attribution.target", "The target")
    def _(found: Any, of: str) -> FactValue:
        return str(found["component"].target).strip()

    @facts.of(at, "attribution.best", "The component that pushes most")
    def _(found: Any, of: str) -> FactValue:
        return _pushes(found["component"])[0]

    @facts.of(at, "attribution.head", "The head that pushes the target most")
    def _(found: Any, of: str) -> FactValue:
        return _pushes(found["head"])[0]

    @facts.of(at, "attribution.layer", "The layer of that head")
    def _(found: Any, of: str) -> FactValue:
        return float(_pushes(found["head"])[0].partition(".")[0])

    @facts.of(at, "attribution.half", "Half of the layers")
    def _(found: Any, of: str) -> FactValue:
        return (1 + max(int(_address(label).partition(".")[0]) for label in found["head"].labels if "H" in label and label[0] == "L")) / 2

    @facts.of(at, "attribution.push", "What that head adds to the target, in logits")
    def _(found: Any, of: str) -> FactValue:
        return _pushes(found["head"])[1]


def _pushes(found: DirectAttribution) -> tuple[str, float]:
    """The part that pushes the target most, and how far; of heads, their address."""
    labels = [label for label in found.labels if label[0].isdigit() or label.startswith("L")]
    values = {label: float(found.values[0, found.labels.index(label)]) for label in labels}
    best = max(values, key=values.__getitem__)
    return _address(best), values[best]


def _address(label: str) -> str:
    """`L2H3` as 2.3; `2_mlp_out` as it reads."""
    if label.startswith("L") and "H" in label:
        layer, _, head = label[1:].partition("H")
        return f"{layer}.{head}"
    layer, _, kind = label.partition("_")
    return f"{'attention' if 'attn' in kind else 'MLP'} of layer {layer}"


def _heads(facts: Vocabulary) -> None:
    @facts.of("heads", "heads.best", "The best head")
    def _(found: HeadScores, of: str) -> FactValue | None:
        best = _top(found, of)
        return None if best is None else f"{best[0]}.{best[1]}"

    @facts.of("heads", "heads.score", "The best head's score")
    def _(found: HeadScores, of: str) -> FactValue | None:
        best = _top(found, of)
        return None if best is None else best[2]

    @facts.of("heads", "heads.chance", "The score of a head that attends evenly")
    def _(found: HeadScores, of: str) -> FactValue | None:
        return float(found.chance[found.kinds.index(of)]) if of in found.kinds else None

    @facts.of("induction", "induction.heads", "The number of induction heads")
    def _(found: tuple[HeadScores, InductionProof], of: str) -> FactValue:
        return len(found[1].heads)

    @facts.of("induction", "induction.whole", "The mean probability of the repeated token in the whole model")
    def _(found: tuple[HeadScores, InductionProof], of: str) -> FactValue:
        return found[1].whole

    @facts.of("induction", "induction.without", "Its mean probability without these heads")
    def _(found: tuple[HeadScores, InductionProof], of: str) -> FactValue:
        return found[1].without

    @facts.of("induction", "induction.random", "The least that any draw of as many other heads leaves of it")
    def _(found: tuple[HeadScores, InductionProof], of: str) -> FactValue:
        return min(found[1].random)


def _top(found: HeadScores, kind: str) -> tuple[int, int, float] | None:
    return found.top(kind, 1)[0] if kind in found.kinds else None


def _patching(facts: Vocabulary) -> None:
    at = "patching"

    @facts.of(at, "patching.measured", "Measured rather than estimated")
    def _(found: PatchingEffects, of: str) -> FactValue:
        return not found.is_estimate

    @facts.of(at, "patching.clean", "The clean prompt's difference between target and distractor, in logits")
    def _(found: PatchingEffects, of: str) -> FactValue:
        return float(found.clean[0])

    @facts.of(at, "patching.corrupt", "The corrupted prompt's difference between target and distractor, in logits")
    def _(found: PatchingEffects, of: str) -> FactValue:
        return float(found.corrupt[0])

    @facts.of(at, "patching.changed", "The number of tokens in which both prompts differ")
    def _(found: PatchingEffects, of: str) -> FactValue:
        return sum(one != other for one, other in zip(found.clean_tokens, found.corrupt_tokens))

    @facts.of(at, "patching.head", "The head that brings back most")
    def _(found: PatchingEffects, of: str) -> FactValue:
        layer, head = divmod(int(found.heads[0].argmax()), found.heads.shape[2])
        return f"{layer}.{head}"

    @facts.of(at, "patching.head_share", "The share of the answer that the best head alone brings back")
    def _(found: PatchingEffects, of: str) -> FactValue:
        return float(found.heads[0].max())

    @facts.of(at, "patching.first_token", "The token where the stream of the first layer brings back most")
    def _(found: PatchingEffects, of: str) -> FactValue | None:
        return _strongest(found, 0)

    @facts.of(at, "patching.last_token", "The token where the stream of the last layer brings back most")
    def _(found: PatchingEffects, of: str) -> FactValue | None:
        return _strongest(found, -1)

    @facts.of(at, "patching.moves", "The layer from which on the last token holds most of the answer")
    def _(found: PatchingEffects, of: str) -> FactValue | None:
        return next((float(i) for i, line in enumerate(found.streams[0, _STREAM]) if line[-1] > 0.5), None)


def _strongest(found: PatchingEffects, layer: int) -> str | None:
    """The token at which the stream of a layer brings back most; an estimate does not know every place."""
    line = found.streams[0, _STREAM, layer]
    return None if (line != line).any() else found.clean_tokens[int(line.argmax())].strip()


def _circuit(facts: Vocabulary) -> None:
    at = "circuit"

    @facts.of(at, "circuit.edges", "The number of edges kept")
    def _(found: Circuit, of: str) -> FactValue:
        return len(found.edges)

    @facts.of(at, "circuit.all_edges", "The number of all edges")
    def _(found: Circuit, of: str) -> FactValue:
        return found.n_edges

    @facts.of(at, "circuit.recovered", "The share of the answer that the edges alone bring back")
    def _(found: Circuit, of: str) -> FactValue:
        return found.recovered

    @facts.of(at, "circuit.random", "The most that as many random edges bring back")
    def _(found: Circuit, of: str) -> FactValue:
        return max(line[found.sizes.index(len(found.edges))] for line in found.random)

    @facts.of(at, "circuit.heads", "The number of heads in the circuit")
    def _(found: Circuit, of: str) -> FactValue:
        return len(found.heads)


def _scope(facts: Vocabulary) -> None:
    facts.add("scope.heads", "The number of heads in the scope", lambda attempt, of: float(len(_picked(attempt))))

    def score(attempt: Attempt, kind: str) -> FactValue | None:
        scored = attempt.earlier.get("heads") or (attempt.earlier.get("induction") or (None,))[0]
        if scored is None or kind not in scored.kinds:
            return None
        scores = scored.scores[0, scored.kinds.index(kind)]
        at = [(layer, head) for layer, head in _picked(attempt) if layer < scores.shape[0] and head < scores.shape[1]]
        return max((float(scores[layer, head]) for layer, head in at), default=None)

    facts.add("scope.score", "The best score of a head in the scope", score)

    def of_circuit(attempt: Attempt, of: str) -> FactValue | None:
        found = attempt.earlier.get("circuit")
        return None if found is None else float(sum(f"{layer}.{head}" in found.heads for layer, head in _picked(attempt)))

    facts.add("scope.circuit", "The number of the circuit's heads in the scope", of_circuit)


def _picked(attempt: Attempt) -> list[tuple[int, int]]:
    """The heads in the scope: (layer, head)."""
    pairs = [name.split(".") for name in attempt.scope if "." in name]
    return [(int(layer), int(head)) for layer, head in pairs]


def _said(tokens: Sequence[str]) -> list[str]:
    """The tokens of a text without the mark that begins it."""
    return [token for token in tokens if not (token.startswith("<") and token.endswith(">"))]


def _is_worded(token: str) -> bool:
    """Whether a token holds a letter or a digit."""
    return any(letter.isalnum() for letter in token)


def _text(tokens: Sequence[str]) -> str:
    return "".join(_said(tokens))
