"""Conversations: read from any layout, rendered by the model's own template, to its ids and no others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.byte_tokenizer import byte_tokenizer
from tests.shape_checks import unchecked
from workbench.conversations import Conversation, Turn, as_chat, conversation
from workbench.decode import Sampling, generate
from workbench.errors import BadPrompt
from workbench.models.chat import chat_ids, has_template, rendered

# Each family's template reduced to what it renders: markers, order, whether a system turn may stand, what opens an answer.
_EACH = "{% for m in messages %}"
_OPEN = "{% if add_generation_prompt %}"
TEMPLATES: dict[str, str] = {
    "chatml": _EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}@@<|im_start|>assistant\n{% endif %}",
    "llama3": "<s>" + _EACH + "<|start|>{{ m.role }}<|end|>\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
    "@@<|start|>assistant<|end|>\n\n{% endif %}",
    "gemma": "<s>{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + _EACH
    + "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content }}<end_of_turn>\n{% endfor %}"
    "@@<start_of_turn>model\n{% endif %}",
    "mistral": "<s>" + _EACH + "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}",
    "qwen3": _EACH + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}@@<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    "phi": _EACH + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}@@<|assistant|>\n{% endif %}",
    "olmo": "<s>" + _EACH + "<|{{ m.role }}|>\n{{ m.content }}{{ '</s>' if m.role == 'assistant' else '' }}\n{% endfor %}"
    "@@<|assistant|>\n{% endif %}",
    "llama2": "<s>{% if messages[0].role == 'system' %}<<SYS>>{{ messages[0].content }}<</SYS>>{% set messages = messages[1:] %}{% endif %}"
    + _EACH + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
}  # fmt: skip
TEMPLATES = {name: template.replace("@@", _OPEN) for name, template in TEMPLATES.items()}
TALK = Conversation((Turn("user", "How are you"), Turn("assistant", "fine"), Turn("user", "and now")))
TALKS = {
    "one question": as_chat("How are you"),
    "several turns": TALK,
    "under a system turn": TALK.with_system("Be kind."),
    "begun by the assistant": TALK.and_then("assistant", "I am"),
}


@pytest.fixture(scope="module")
def make() -> Any:
    return byte_tokenizer


# Gemma and Mistral refuse a system turn: below.
RENDERED = [(name, what) for name in TEMPLATES for what in TALKS if what != "under a system turn" or name not in ("gemma", "mistral")]


@pytest.mark.parametrize(("name", "what"), RENDERED)
def test_ids_are_those_of_the_template_and_decode_to_its_text(make: Any, name: str, what: str) -> None:
    tokenizer, talk = make(TEMPLATES[name]), TALKS[what]
    goes_on = talk.turns[-1].role == "assistant"
    wanted = tokenizer.apply_chat_template(
        talk.messages(), tokenize=True, add_generation_prompt=not goes_on, continue_final_message=goes_on, return_dict=False
    )
    found = chat_ids(tokenizer, talk)
    assert found == wanted
    assert tokenizer.decode(found) == rendered(tokenizer, talk)
    assert found.count(tokenizer.bos_token_id) == rendered(tokenizer, talk).count("<s>")  # never doubled


def test_a_last_turn_of_the_assistant_is_gone_on_with(make: Any) -> None:
    tokenizer = make(TEMPLATES["chatml"])
    text = rendered(tokenizer, TALK.and_then("assistant", "I am"))
    assert text.endswith("<|im_start|>assistant\nI am")


def test_a_template_that_refuses_says_why(make: Any) -> None:
    with pytest.raises(BadPrompt, match="System role not supported") as found:
        chat_ids(make(TEMPLATES["gemma"]), as_chat("Hello", "Be kind."))
    assert "first question" in found.value.hint
    with pytest.raises(BadPrompt, match="alternate"):
        chat_ids(make(TEMPLATES["mistral"]), Conversation((Turn("assistant", "a"), Turn("assistant", "b"))))
    assert chat_ids(make(TEMPLATES["gemma"]), as_chat("Hello"))


def test_a_model_without_a_template_refuses_conversations(make: Any) -> None:
    plain = make(None)
    assert not has_template(plain) and has_template(make(TEMPLATES["phi"]))
    with pytest.raises(BadPrompt, match="no chat template"):
        chat_ids(plain, TALK)


def test_layouts_of_messages_are_read() -> None:
    ours = conversation([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    assert conversation([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]) == ours
    assert str(ours) == "user: a\nassistant: b" and ours.asked == "a"
    assert ours.with_system("s").system == "s" and ours.with_system("s").with_system(None) == ours


@pytest.mark.parametrize(
    "messages", [[], [{"role": "robot", "content": "a"}], [{"role": "user"}], [{"role": "user", "content": ["a"]}], ["a"]]
)
def test_a_damaged_conversation_is_named(messages: list[Any]) -> None:
    with pytest.raises(BadPrompt), unchecked():
        conversation(messages)


def test_a_model_answers_a_conversation(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_gpt2.tokenizer, "chat_template", "{% for m in messages %}{{ m.content }} {% endfor %}w3")
    batch = tiny_gpt2.tokens([as_chat("w1 w2"), "w5"])
    assert batch.ids[0].tolist() == [1, 2, 3] and batch.n_prompt.tolist() == [3, 1]
    with_answer = tiny_gpt2.tokens(as_chat("w1 w2"), "w7")
    assert with_answer.ids[0].tolist() == [1, 2, 3, 7] and with_answer.n_prompt.tolist() == [3]
    found = generate(tiny_gpt2, [as_chat("w1 w2")], sampling=Sampling(max_new_tokens=3))[0][0]
    assert (
        found.prompt == as_chat("w1 w2") and found.ids == generate(tiny_gpt2, ["w1 w2 w3"], sampling=Sampling(max_new_tokens=3))[0][0].ids
    )


def test_a_generation_config_is_honoured(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, how = "w12 w13", Sampling(max_new_tokens=6)
    plain = generate(tiny_gpt2, [prompt], sampling=how)[0][0].ids
    config = tiny_gpt2.network.generation_config
    monkeypatch.setattr(config, "eos_token_id", [99, plain[2]])
    stopped = generate(tiny_gpt2, [prompt], sampling=how)[0][0]
    assert stopped.ids == plain[: plain.index(plain[2]) + 1] and stopped.ended == "end"
    monkeypatch.setattr(config, "eos_token_id", 99)
    monkeypatch.setattr(config, "begin_suppress_tokens", [plain[0]])
    ids = tiny_gpt2.tokens(prompt).ids
    with torch.no_grad():
        wanted = tiny_gpt2.network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, pad_token_id=99)
    found = generate(tiny_gpt2, [prompt], sampling=how)[0][0].ids
    assert found[0] != plain[0] and list(found) == wanted[0, ids.shape[1] :].tolist()
    monkeypatch.setattr(config, "begin_suppress_tokens", None)
    monkeypatch.setattr(config, "suppress_tokens", sorted(set(plain)))
    assert not set(generate(tiny_gpt2, [prompt], sampling=how)[0][0].ids) & set(plain)


def test_sampling_defaults_are_read_only_where_the_model_samples(tiny_gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_gpt2.network.generation_config
    monkeypatch.setattr(config, "temperature", 0.6)
    assert tiny_gpt2.generation.temperature == 0.0
    monkeypatch.setattr(config, "do_sample", True)
    monkeypatch.setattr(config, "top_p", 0.9)
    assert (tiny_gpt2.generation.temperature, tiny_gpt2.generation.top_p) == (0.6, 0.9)
