"""The cards name methods, knobs, sets and models that exist, and a wrong one is told by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pages._ui.kit import cards
from pages._ui.kit.cards import FitCard, TeachCard, card
from workbench.errors import BadKnob, UnknownName
from workbench.methods import get
from workbench.resources import CARDS, EMBEDDED, SETS


def test_every_card_that_ships_can_be_used() -> None:
    first, taught = card(FitCard, "truthful"), card(TeachCard, "teach")
    assert {path.stem for path in CARDS.glob("*.json")} == {"truthful", "teach"}
    assert get(first.method).configure(first.values) and first.dose > 0
    assert first.set in {item["id"] for item in json.loads((SETS / "index.json").read_text())} and first.model in EMBEDDED
    assert get(taught.method).needs.senses and all((taught.prompt, taught.answer, taught.questions, taught.word, taught.reading))


@pytest.mark.parametrize(
    ("change", "what"),
    [({"dose": "2"}, "dose"), ({"dose": None}, "dose"), ({"colour": "red"}, "colour"), ({"values": [1]}, "values")],
)
def test_a_card_with_a_wrong_field_is_refused_by_its_name(
    change: dict[str, object], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads((CARDS / "truthful.json").read_text())
    monkeypatch.setattr(cards, "CARDS", tmp_path)
    (tmp_path / "truthful.json").write_text(json.dumps(told))
    assert card(FitCard, "truthful").dose == told["dose"]
    (tmp_path / "truthful.json").write_text(json.dumps(told | change))
    with pytest.raises(BadKnob, match=what) as caught:
        card(FitCard, "truthful")
    assert "assets/cards" in caught.value.hint
    (tmp_path / "truthful.json").write_text("{")
    with pytest.raises(BadKnob, match="no JSON"):
        card(FitCard, "truthful")
    with pytest.raises(UnknownName, match="truthful"):
        card(FitCard, "trutful")
