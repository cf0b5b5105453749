"""Loading, saving, padding and cached decoding of a Backpack. Ref: docs/methods/senses.md §2.8, §6."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from shape_checks import unchecked
from tiny_backpack import CONFIG, PREFIX, Y1, tiny_backpack
from transformers import GPT2Config, GPT2Model

from workbench.errors import BadPrompt, CorruptModel, ModelUnavailable
from workbench.models.backpack.files import ALIASES, WPE, WTE, BackpackConfig
from workbench.models.backpack.network import BackpackNetwork

IDS = torch.tensor([PREFIX + Y1])
ROUNDING = 1e-12  # float64 sums in another order


@pytest.fixture(scope="module")
def network():
    return tiny_backpack()


@pytest.fixture
def folder(network, tmp_path):
    network.save_folder(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder, change):
    """Apply `change` to the stored state dict."""
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")


def test_save_load_save_is_identical(network, folder, tmp_path):
    loaded = BackpackNetwork.load_folder(folder)
    assert torch.equal(loaded(IDS), network(IDS))
    loaded.save_folder(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_tied_matrices_are_written_once(folder):
    stored = load_file(folder / "model.safetensors")
    assert {WTE, WPE} <= set(stored) and not set(ALIASES) & set(stored)


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_a_matrix_under_its_alias_alone_loads_to_bit_equal_logits(network, folder, alias):
    rewrite(folder, lambda state: state.update({alias: state.pop(ALIASES[alias])}))
    assert torch.equal(BackpackNetwork.load_folder(folder)(IDS), network(IDS))


def test_all_aliases_and_mask_buffers_together_load(network, folder):
    def add(state):
        state.update({alias: state[own].clone() for alias, own in ALIASES.items()})
        state["backpack.gpt2_model.h.0.attn.bias"] = torch.ones(1, 1, 16, 16, dtype=torch.bool)
        state["backpack.gpt2_model.h.1.attn.masked_bias"] = torch.tensor(-1e4)

    rewrite(folder, add)
    assert torch.equal(BackpackNetwork.load_folder(folder)(IDS), network(IDS))


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_an_alias_that_differs_is_refused_by_both_names(folder, alias):
    rewrite(folder, lambda state: state.update({alias: state[ALIASES[alias]] + 1}))
    with pytest.raises(CorruptModel, match="differ") as caught:
        BackpackNetwork.load_folder(folder)
    assert alias in str(caught.value) and ALIASES[alias] in str(caught.value)


def test_a_missing_name_is_refused_by_name(folder):
    name = "backpack.sense_network.ln.bias"
    rewrite(folder, lambda state: state.pop(name))
    with pytest.raises(CorruptModel, match=name):
        BackpackNetwork.load_folder(folder)


def test_an_unexpected_name_is_refused_by_name(folder):
    rewrite(folder, lambda state: state.update({"transformer.h.0.extra": torch.zeros(1)}))
    with pytest.raises(CorruptModel, match="transformer.h.0.extra"):
        BackpackNetwork.load_folder(folder)


def test_a_matrix_of_another_orientation_is_refused(folder):
    name = "backpack.gpt2_model.h.0.mlp.c_fc.weight"
    rewrite(folder, lambda state: state.update({name: state[name].T.contiguous()}))
    with pytest.raises(CorruptModel, match=r"c_fc.weight has shape \(32, 8\)"):
        BackpackNetwork.load_folder(folder)


def test_pickled_weights_load_to_the_same_logits(network, folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(BackpackNetwork.load_folder(folder)(IDS), network(IDS))


class Sprung:
    """Unpickling me would run code."""

    def __reduce__(self):
        return print, ("sprung",)


def test_a_pickle_that_would_run_code_is_refused(folder, capsys):
    torch.save({"x": Sprung()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CorruptModel, match="more than tensors"):
        BackpackNetwork.load_folder(folder)
    assert "sprung" not in capsys.readouterr().out


def test_a_cut_file_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorruptModel, match="cannot be read"):
        BackpackNetwork.load_folder(folder)


def test_a_folder_without_weights_or_config_is_unavailable(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelUnavailable, match="pytorch_model.bin"):
        BackpackNetwork.load_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelUnavailable, match="config.json"):
        BackpackNetwork.load_folder(folder)


def test_an_ordinary_gpt2_config_is_no_backpack(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(CorruptModel, match="no Backpack"):
        BackpackNetwork.load_folder(folder)


def test_config_defaults_are_the_released_ones_and_give_170_083_584_parameters():
    config = BackpackConfig.from_json({"architectures": ["BackpackGPT2LMHeadModel"]})
    assert config == BackpackConfig()
    with torch.device("meta"):
        network = BackpackNetwork(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == 170_083_584
    assert BackpackConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_head", 3), ("num_senses", 9), ("n_layer", 0), ("vocab_size", 2.5), ("activation_function", "relu")],
)
def test_a_config_that_makes_no_network_is_refused_by_key(key, value):
    with unchecked(), pytest.raises(CorruptModel, match=key):
        BackpackConfig.from_json({**CONFIG.to_json(), key: value})


def test_the_body_equals_hugging_face_gpt2(network):
    body = GPT2Model(
        GPT2Config(
            vocab_size=23, n_positions=16, n_embd=8, n_layer=2, n_head=2, scale_attn_by_inverse_layer_idx=True
        )
    ).double().eval()  # fmt: skip
    body.load_state_dict(network.backpack.gpt2_model.state_dict())
    torch.testing.assert_close(network.body(IDS), body(IDS).last_hidden_state, rtol=0, atol=ROUNDING)


def test_weights_are_distributions_over_what_may_be_read(network):
    alpha = network.contextualisation(IDS)
    assert (alpha >= 0).all() and (alpha.triu(1) == 0).all()
    torch.testing.assert_close(alpha.sum(-1), torch.ones_like(alpha[..., 0]), rtol=0, atol=ROUNDING)


def test_senses_depend_on_the_word_type_only(network):
    here, there = network.senses(torch.tensor([[3, 12, 7]])), network.senses(torch.tensor([[12, 1, 12, 12]]))
    torch.testing.assert_close(here[0, 1], there[0, 3], rtol=0, atol=ROUNDING)
    assert torch.equal(there[0, 2], there[0, 3])


def test_permuting_senses_in_weights_and_vectors_alike_changes_nothing(network):
    order = torch.tensor([2, 0, 3, 1])
    alpha, senses = network.contextualisation(IDS), network.senses(IDS)
    same = network.mix(alpha[:, order], senses[:, :, order])
    torch.testing.assert_close(same, network.mixed(IDS), rtol=0, atol=ROUNDING)
    assert (network.mix(alpha[:, order], senses) - network.mixed(IDS)).abs().max() > 1e-3  # negative control


@pytest.mark.parametrize("n_padding", [1, 4])
def test_left_padding_with_a_mask_equals_no_padding(network, n_padding):
    padded = torch.cat([torch.full((1, n_padding), 5), IDS], dim=1)
    mask = torch.arange(padded.shape[1])[None] >= n_padding
    got = network(padded, mask)
    assert got.isfinite().all()
    torch.testing.assert_close(got[:, n_padding:], network(IDS), rtol=0, atol=ROUNDING)
    assert (network(padded)[:, n_padding:] - network(IDS)).abs().max() > 1e-3  # negative control: no mask


@pytest.mark.parametrize("chunks", [(6,), (1, 1, 1, 1, 1, 1), (3, 1, 2)])
def test_cached_decoding_equals_the_full_forward(network, chunks):
    cache, got, start = network.new_cache(), [], 0
    for n in chunks:
        logits, cache = network.step(IDS[:, start : start + n], None, cache)
        got.append(logits)
        start += n
    torch.testing.assert_close(torch.cat(got, dim=1), network(IDS), rtol=0, atol=ROUNDING)


def test_cached_decoding_of_a_left_padded_batch_equals_each_row_alone(network):
    ids = torch.tensor([[0, 0, 4, 9, 2], [8, 3, 7, 1, 12]])
    mask = torch.tensor([[False, False, True, True, True], [True] * 5])
    _, cache = network.step(ids, mask, network.new_cache())
    after, cache = network.step(torch.tensor([[6], [6]]), None, cache)
    alone = [network(torch.tensor([row]))[0, -1] for row in ([4, 9, 2, 6], [8, 3, 7, 1, 12, 6])]
    torch.testing.assert_close(after[:, 0], torch.stack(alone), rtol=0, atol=ROUNDING)


def test_beyond_the_context_decoding_equals_the_forward_of_the_cropped_window(network):
    ids = torch.arange(20)[None] % 23
    cache = network.new_cache()
    for t in range(20):
        logits, cache = network.step(ids[:, t : t + 1], None, cache)
    # Positions 0..15 fill the context of 16; the next token crops to 12, and three more are cached.
    assert cache.length == 15
    torch.testing.assert_close(logits, network(ids[:, 5:])[:, -1:], rtol=0, atol=ROUNDING)


def test_a_selected_cache_row_decodes_like_its_original(network):
    _, cache = network.step(IDS, None, network.new_cache())
    cache.select(torch.tensor([0, 0, 0]))
    logits, _ = network.step(torch.tensor([[1], [2], [3]]), None, cache)
    for lane, token in enumerate((1, 2, 3)):
        alone = network(torch.tensor([PREFIX + Y1 + [token]]))[0, -1]
        torch.testing.assert_close(logits[lane, 0], alone, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("n_tokens", [0, 17])
def test_a_text_that_does_not_fit_the_context_is_refused_with_both_numbers(network, n_tokens):
    with pytest.raises(BadPrompt, match=rf"{n_tokens} tokens.*16"):
        network(torch.zeros(1, n_tokens, dtype=torch.long))


def test_the_same_seed_draws_the_same_weights_with_the_released_spreads():
    config = BackpackConfig(vocab_size=500, num_senses=4, n_positions=64, n_embd=64, n_layer=4, n_head=4)
    first, same, other = (BackpackNetwork(config).init_weights(seed) for seed in (0, 0, 1))
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(first(ids), same(ids)) and not torch.equal(first(ids), other(ids))
    state = first.state_dict()
    # 16384 and 32000 draws: the sample deviation is within 3 % of the true one with near certainty.
    assert state["backpack.gpt2_model.h.0.mlp.c_proj.weight"].std().item() == pytest.approx(0.02 / 8**0.5, rel=0.03)
    assert state[WTE].std().item() == pytest.approx(0.02, rel=0.03)
    assert (state["backpack.gpt2_model.ln_f.weight"] == 1).all() and (state["backpack.gpt2_model.ln_f.bias"] == 0).all()
