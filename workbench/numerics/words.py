"""How far plain words tell two kinds of texts apart: the reference that a probe inside a model has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from workbench.shapes import Float

_FOLDS = 5


def crossed_word_scores(
    good: Sequence[str], bad: Sequence[str], groups: Sequence[int], folds: int = _FOLDS
) -> tuple[Float[np.ndarray, " pair"], Float[np.ndarray, " pair"]]:
    """Scores of pairs of texts by logistic regression on which words they hold, each by a fit that saw no pair of its group.

    Words are runs of letters in any case; both texts of a pair are in one fold. A score above 0 means good.
    """
    n = len(good)
    words = CountVectorizer(binary=True, token_pattern=r"(?u)\b\w+\b")
    try:
        x = words.fit_transform([*good, *bad])
    except ValueError:  # not one word in any text: nothing tells them apart
        return np.zeros(n), np.zeros(n)
    y, told = np.repeat([1, 0], n), np.zeros(2 * n)
    for seen, held in GroupKFold(min(folds, len(set(groups)))).split(x, y, np.tile(np.asarray(groups), 2)):
        model = LogisticRegression(max_iter=1000).fit(x[seen], y[seen])
        told[held] = model.decision_function(x[held])
    return told[:n], told[n:]
