"""The reader: a site's numbers at every token are the cache's, massive tokens are told apart, and what is not there is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.conftest import contrast_rows, words
from tests.made_edits import shift
from tests.unit.test_sinks import planted
from workbench.edits.engine import applied
from workbench.errors import BadKnob, BadPrompt, BadSite, UnknownSite
from workbench.lenses.bridged import run
from workbench.lenses.reader import readable_sites, reader

TEXTS = [words(3, 7, 12, 5), words(8, 9), words(31, 32, 33)]
# Site → TransformerLens's name of it.
NAMED = {
    "resid_post@1": "blocks.1.hook_resid_post",
    "mlp_post@0": "blocks.0.mlp.hook_post",
    "attn_out@2": "blocks.2.hook_attn_out",
    "head_z@1.2": "blocks.1.attn.hook_z",
}


@pytest.mark.parametrize("site", list(NAMED))
def test_every_token_of_every_text_has_what_transformer_lens_caches(tiny_gpt2: Any, site: str) -> None:
    edit = shift(tiny_gpt2, layer=0)
    found = reader(tiny_gpt2, texts=TEXTS, site=site, unit=3, stacks=[(), (edit,)])
    for lane, stack in enumerate(((), (edit,))):
        for i, text in enumerate(TEXTS):
            cached = run(tiny_gpt2, tiny_gpt2.tokens(text), stack, [NAMED[site]])[1][NAMED[site]][0]
            wanted = (cached[:, 2] if "." in site else cached.flatten(1)).double().numpy()
            at = found.places(i)
            np.testing.assert_allclose(found.norms[lane, at], np.linalg.norm(wanted, axis=-1), rtol=1e-4)
            np.testing.assert_allclose(found.values[lane, at], wanted[:, 3], rtol=1e-3, atol=1e-5)
            best = np.abs(wanted).argmax(-1)
            assert found.largest[lane, at, 0].tolist() == best.tolist()
            np.testing.assert_allclose(found.largest_values[lane, at, 0], wanted[range(len(best)), best], rtol=1e-3)
    if site != "mlp_post@0":
        assert np.abs(found.values[1] - found.values[0]).max() > 1e-3, "what stands behind the edit moves"


def test_the_strongest_are_the_highest_one_a_text_and_the_table_has_a_row_a_token(tiny_gpt2: Any) -> None:
    found = reader(tiny_gpt2, texts=TEXTS, site="resid_post@1", unit=5)
    best = found.strongest(3)
    assert [int(found.text_of[i]) for i in sorted(best)] == [0, 1, 2], "one a text"
    assert [found.values[0, i] for i in best] == sorted((found.values[0, found.places(t)].max() for t in range(3)), reverse=True)
    low = found.strongest(1, lowest=True)
    assert found.values[0, low[0]] == found.values[0].min()
    rows = found.rows()
    assert len(rows) == len(found.tokens) == 9 and rows[4]["text"] == 1 and rows[4]["token"] == 0 and rows[4]["says"] == "w8"
    norm = reader(tiny_gpt2, texts=TEXTS, site="resid_post@1")
    assert norm.unit is None and (norm.values == norm.norms).all()


def test_a_massive_token_is_marked_and_hides_no_other_and_none_is_marked_without_one(tiny_gpt2: Any) -> None:
    plain = reader(tiny_gpt2, texts=TEXTS, site="resid_post@1")
    assert not plain.massive.any() and "None of the 9 tokens" in plain.says
    with applied(tiny_gpt2, planted(tiny_gpt2)):  # the fourth token from the end of each batch
        found = reader(tiny_gpt2, words(12, 13, 14, 15, 16), site="resid_post@1")
    assert found.massive[0].tolist() == [False, True, False, False, False]
    assert "1 of 5 token is massive ('w13')" in found.says and found.tokens[found.strongest(1)[0]] != "w13"


def test_a_set_is_read_by_its_prompts(tiny_gpt2: Any) -> None:
    rows = contrast_rows(6)
    found = reader(tiny_gpt2, demonstrations=rows, site="resid_post@0")
    assert list(found.prompts) == list(dict.fromkeys(rows.prompts()))
    one = reader(tiny_gpt2, rows[2].prompt, site="resid_post@0")
    np.testing.assert_allclose(found.norms[0, found.places(2)], one.norms[0], rtol=1e-4)


def test_every_site_that_tokens_pass_is_read_in_every_family(tiny: Any) -> None:
    for site in readable_sites(tiny):
        found = reader(tiny, TEXTS[0], site=str(site))
        assert np.isfinite(found.norms).all() and found.norms.shape == (1, len(found.tokens)), site


def test_what_is_not_there_is_refused_by_name(tiny_gpt2: Any) -> None:
    with pytest.raises(UnknownSite):
        reader(tiny_gpt2, TEXTS[0], site="resid_post@9")
    with pytest.raises(BadSite, match="is a matrix"):
        reader(tiny_gpt2, TEXTS[0], site="w_out@1")
    with pytest.raises(BadKnob, match="holds 32 numbers, and number 32"):
        reader(tiny_gpt2, TEXTS[0], site="resid_post@1", unit=32)
    with pytest.raises(BadKnob, match="given together"):
        reader(tiny_gpt2, TEXTS[0], texts=TEXTS, site="resid_post@1")
    with pytest.raises(BadPrompt, match="no text to read"):
        reader(tiny_gpt2, site="resid_post@1")
