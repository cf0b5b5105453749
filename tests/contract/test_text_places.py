"""Places that are found in the text: behind a text, and in the turns of one side; the same with a cache, without, and padded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.byte_tokenizer import byte_tokenizer
from tests.conftest import words
from tests.made_edits import CLOSE, low_rank, shift
from tests.unit.test_chat import TALK, TEMPLATES
from workbench.conversations import Conversation
from workbench.decode import Sampling, generate
from workbench.edits.engine import applied, lanes
from workbench.edits.store import load_edit, save
from workbench.errors import BadLane, BadPlace, CorruptEdit, UnknownName
from workbench.lenses.bridged import run
from workbench.models.base import LanguageModel
from workbench.models.chat import chat_ids
from workbench.models.placing import rule_for, text_of_ids, turn_marks
from workbench.models.tokens import TokenBatch
from workbench.operations import Forward
from workbench.place import after, read_place

PLACE = 'after "w7"'


def moved_at(model: LanguageModel, batch: TokenBatch, place: str) -> list[list[bool]]:
    """At which tokens a shift in the last layer, placed so, changes what is said next: there alone, as no later layer spreads it."""
    edit = shift(model, layer=model.info.n_layers - 1).acting(place)
    with torch.no_grad():
        base = model.logits(batch)
        with applied(model, edit):
            found = model.logits(batch)
    return [(found[i] != base[i]).any(-1)[batch.mask[i]].tolist() for i in range(len(batch))]


def acting(tokenizer: Any, place: str, ids: list[int]) -> list[bool]:
    """Where a place acts on ids, read at once."""
    batch = TokenBatch.of([ids], None)
    return rule_for(tokenizer, read_place(place))(batch.forward())[0].tolist()


# ── behind a text ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_it_acts_from_the_token_on_that_completes_the_text(tiny: LanguageModel) -> None:
    batch = tiny.tokens([words(3, 7, 5, 4, 2), words(1, 2), words(5, 6, 8, 7)])
    assert moved_at(tiny, batch, PLACE) == [[False, True, True, True, True], [False, False], [False, False, False, True]]
    assert moved_at(tiny, batch, 'after "w1 w2"')[1] == [False, True]
    assert moved_at(tiny, batch, 'after regex "w[56] w[48]"') == [[False] * 3 + [True] * 2, [False, False], [False, False, True, True]]
    assert moved_at(tiny, batch, 'after "w9"') == [[False] * 5, [False] * 2, [False] * 4], "what does not occur moves nothing"
    assert moved_at(tiny, batch, "all")[1] == [True, True]


@pytest.mark.parametrize("place", [PLACE, 'after regex "w7|w5"', "first 3"])
def test_with_and_without_a_cache_padded_and_alone_the_logits_are_the_same(tiny: LanguageModel, place: str) -> None:
    edit, prompts, answer = shift(tiny).acting(place), [words(3, 7, 5), words(1, 2, 5, 6, 8)], [7, 4, 2]
    batch = tiny.tokens(prompts)
    whole = batch
    for token in answer:
        whole = whole.append(torch.tensor([token] * 2))
    with torch.no_grad(), applied(tiny, edit):
        wanted = tiny.logits(whole)[:, -4:]
        cache, n_before, found = tiny.new_cache(), 0, []
        for k in range(4):
            logits, cache = tiny.step(batch, cache, n_before)
            n_before = batch.ids.shape[1]
            found.append(logits)
            batch = batch.append(torch.tensor(answer[k : k + 1] * 2)) if k < 3 else batch
        torch.testing.assert_close(torch.stack(found, 1), wanted, atol=CLOSE, rtol=1e-4)
        for row in range(2):
            alone = TokenBatch.of([whole.ids[row][whole.mask[row]].tolist()], [int(whole.n_prompt[row])])
            torch.testing.assert_close(tiny.logits(alone)[0, -4:], wanted[row], atol=CLOSE, rtol=1e-4)
    with torch.no_grad():
        assert float((tiny.logits(whole)[:, -4:] - wanted).abs().max()) > 100 * CLOSE, "it does something"


def test_lanes_and_generation_and_lenses_know_the_place(tiny_gpt2: LanguageModel) -> None:
    edit = shift(tiny_gpt2).acting(PLACE)
    prompt, how = words(3, 7, 5), Sampling(max_new_tokens=6)
    side_by_side = generate(tiny_gpt2, [prompt], [(), (edit,), (shift(tiny_gpt2),)], how)
    assert side_by_side[1][0].ids == generate(tiny_gpt2, [prompt], [(edit,)], how)[0][0].ids
    batch = tiny_gpt2.tokens(prompt)
    with torch.no_grad(), lanes(tiny_gpt2, [(), (edit,)]):
        base, placed = tiny_gpt2.logits(batch.repeat(2))
    torch.testing.assert_close(base[:1], placed[:1], atol=CLOSE, rtol=1e-4)
    torch.testing.assert_close(run(tiny_gpt2, batch, [edit])[0][0], placed, atol=CLOSE, rtol=1e-4)


def test_a_text_ends_within_a_token_or_goes_over_several(tiny_gpt2: LanguageModel) -> None:
    tokenizer: Any = byte_tokenizer(TEMPLATES["chatml"])
    ids = tokenizer("a né b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 7, "é is two tokens"
    assert acting(tokenizer, 'after "é"', ids) == [False] * 4 + [True] * 3
    assert acting(tokenizer, 'after "n"', ids) == [False] * 2 + [True] * 5
    batch = tiny_gpt2.tokens(words(3, 71, 5))
    assert moved_at(tiny_gpt2, batch, 'after "7"') == [[False, True, True]], "the token that holds its last character"


def test_what_has_been_read_decides_not_what_comes(tiny_gpt2: LanguageModel) -> None:
    tokenizer = tiny_gpt2.tokenizer
    ids = tokenizer(words(7, 71, 7))["input_ids"]
    for pattern in ('after regex "w7(?! )"', 'after regex "w7$"'):
        assert acting(tokenizer, pattern, ids) == [True, True, True], "at the first token nothing stands behind it yet"


# ── turns ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
def turns_of(tokenizer: Any, talk: Conversation) -> tuple[list[int], dict[str, list[str]]]:
    """Ids, and of each side the texts of the tokens at which an edit placed on it acts, put together run by run."""
    ids, found = chat_ids(tokenizer, talk), dict[str, list[str]]()
    for role in turn_marks(tokenizer):
        acts, runs = acting(tokenizer, role, ids), [""]
        for i, on in enumerate(acts):
            if on:
                runs[-1] += text_of_ids(tokenizer, ids[i : i + 1])
            elif runs[-1]:
                runs.append("")
        found[role] = [run for run in runs if run]
    return ids, found


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_side_is_told_by_the_template_s_own_marks(name: str) -> None:
    tokenizer = byte_tokenizer(TEMPLATES[name])
    has_system = name not in ("gemma", "mistral")
    talk = TALK.with_system("Be kind.") if has_system else TALK
    ids, found = turns_of(tokenizer, talk)
    assert set(found) == {"user", "assistant", *(["system"] if has_system else [])}
    for role, runs in found.items():
        said = [turn.text for turn in talk.turns if turn.role == role]
        assert len(runs) == len(said) + (role == "assistant"), "and the turn that the prompt leaves open"
        for one, text in zip(runs, said):
            assert one[1:].lstrip().startswith(text) and not any(other.text in one for other in talk.turns if other.role != role)
    sides = [acting(tokenizer, role, ids) for role in found]
    assert max(sum(on) for on in zip(*sides)) == 1, "no token is of two sides"
    rule = rule_for(tokenizer, read_place("user"))
    grown = [bool(rule(TokenBatch.of([ids[:n]], None).forward())[0, -1]) for n in range(1, len(ids) + 1)]
    assert grown == acting(tokenizer, "user", ids), "token by token as at once"


def test_a_side_that_the_template_does_not_mark_is_refused(tiny_gpt2: LanguageModel) -> None:
    for name in ("gemma", "mistral"):
        with pytest.raises(BadPlace, match="no mark of its own for a system turn"):
            rule_for(byte_tokenizer(TEMPLATES[name]), read_place("system"))
    with pytest.raises(BadPlace, match="no chat template"), applied(tiny_gpt2, shift(tiny_gpt2).acting("user")):
        pass


# ── words and errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("after", "after what"), ('after ""', "empty text"), ("after Answer", "after what"), ('after regex "("', "no regular expression"),
        ('after regex "a*"', "matches the empty text"), ("first 0", "no token"), (f'after "{"a" * 501}"', "501 characters"),
    ],
)  # fmt: skip
def test_a_place_that_is_none_is_refused(tiny_gpt2: LanguageModel, text: str, why: str) -> None:
    with pytest.raises(BadPlace, match=why):
        shift(tiny_gpt2).acting(text)


def test_words_of_places_are_read_back(tiny_gpt2: LanguageModel) -> None:
    assert after('she said "no"') == 'after "she said ""no"""' and read_place(after('she said "no"')).text == 'she said "no"'
    assert read_place(" first  04").label == "on the first 4 tokens of the answer"
    assert [read_place(word).label for word in ("user", 'after regex "[0-9]+"')] == ["on the user's turns", "after a match of “[0-9]+”"]
    with pytest.raises(UnknownName, match="position rule 'nowhere'"):
        shift(tiny_gpt2).acting("nowhere")
    with pytest.raises(BadLane, match="changes weights"):
        low_rank(tiny_gpt2).placed("user")


def test_a_search_that_would_take_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.place.SECONDS", 1e-9)
    with pytest.raises(BadPlace, match="takes more than"):
        read_place('after regex "(a+)+b"').occurs("a" * 40, 40)


# ── a part of the edit ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def fitted(tiny_gpt2: LanguageModel) -> Any:
    from tests.conftest import contrast_rows
    from workbench.methods import registry

    method = registry.get("mean_difference")
    return method.fit(tiny_gpt2, contrast_rows(), method.configure({"layers": "1"})).edit


@pytest.mark.parametrize("place", [PLACE, "first 2", "prompt"])
def test_a_place_is_saved_with_the_edit(tiny_gpt2: LanguageModel, fitted: Any, tmp_path: Path, place: str) -> None:
    placed = fitted.placed(place)
    back = load_edit(save(placed, tmp_path / "placed"))
    assert (back.id, back.place, back.where) == (placed.id, place, "") and placed.id != fitted.id
    assert fitted.acting(place).id == fitted.id, "a lane's place is no part of it"
    batch = tiny_gpt2.tokens(words(3, 7, 5), " w2 w4")
    with torch.no_grad():
        found = []
        for edit in (placed, back, fitted.acting(place), fitted):
            with applied(tiny_gpt2, edit):
                found.append(tiny_gpt2.logits(batch))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2]) and not torch.equal(found[0], found[3])
    assert back.acting("all").acts_at == "all", "a lane's place comes first"
    assert "It acts" in (tmp_path / "placed" / "README.md").read_text()


def test_an_edit_without_a_place_keeps_id_and_file(fitted: Any, tmp_path: Path) -> None:
    text = (save(fitted, tmp_path / "plain") / "edit.json").read_text()
    assert '"place"' not in text and '"schema": 5' not in text.splitlines()[-2:]
    assert load_edit(tmp_path / "plain").id == fitted.id and replace(fitted, place="").id == fitted.id


def test_a_file_with_a_place_that_is_none_is_refused(fitted: Any, tmp_path: Path) -> None:
    file = save(fitted.placed("prompt"), tmp_path / "bad") / "edit.json"
    for wrong in ("nowhere", "after"):
        file.write_text(file.read_text().replace('"place": "prompt"', f'"place": "{wrong}"'))
        with pytest.raises(CorruptEdit, match="describes no"):
            load_edit(file.parent)
        file.write_text(file.read_text().replace(f'"place": "{wrong}"', '"place": "prompt"'))


def test_exports_honour_a_place_or_refuse_it_by_name(tiny_gpt2: LanguageModel, fitted: Any, tmp_path: Path) -> None:
    from workbench.edits.export import export

    assert "“w7”" in fitted.placed(PLACE).possible_exports()["script"].reason
    with pytest.raises(Exception, match="a script sees positions"):
        export(tiny_gpt2, fitted.placed(PLACE), "script", tmp_path / "no")
    report = export(tiny_gpt2, fitted.placed("first 2"), "script", tmp_path / "script", fresh_process=False)
    assert report.parity is not None and report.parity < 1e-4
    export(tiny_gpt2, fitted.placed(PLACE), "report", tmp_path / "report")
    assert "w7" in next((tmp_path / "report").glob("*.html")).read_text()


def test_a_forward_that_does_not_know_its_tokens_cannot_place() -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="all tokens"):
        rule_for(byte_tokenizer(TEMPLATES["chatml"]), read_place("user"))(Forward(mask, mask, mask, mask.long()))
