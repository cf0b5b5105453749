"""An edit of a language model, made by Retouch. Needs torch, transformers and safetensors.

    python edit.py --model MODEL --prompt "Once upon a time"       # with the edit
    python edit.py --model MODEL --prompt "Once upon a time" --off # without

    import edit
    handles = edit.attach(model)   # model: transformers.AutoModelForCausalLM of the model named below
    model.generate(...)
    edit.detach(handles)           # the model is as it was, bit for bit

Steps that act at some positions take the first call without a cache for the prompt and later calls for generated tokens.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

MODEL = ""
STEPS: list[dict[str, Any]] = []
FUNCTIONS: dict[str, Callable[..., Tensor]] = {}


def attach(model: nn.Module, tensors: str | Path | None = None) -> list[Callable[[], None]]:
    """Let the edit act on every forward of a model; return what `detach` needs."""
    path = Path(__file__).with_suffix(".safetensors") if tensors is None else Path(tensors)
    parameter = next(model.parameters())
    known = {name: tensor.to(parameter.device) for name, tensor in load_file(path).items()}
    state: dict[str, Any] = {"before": 0, "real": None}
    undo: list[Callable[[], None]] = [model.register_forward_pre_hook(_watch(state), with_kwargs=True).remove]
    for step in STEPS:
        module = model.get_submodule(step["module"])
        if step["kind"] == "weight":
            undo.append(_add_to_weight(module, step, known))
        else:
            undo.append(_transform(module, step, known, state))
    return undo


def detach(handles: list[Callable[[], None]]) -> None:
    """Take the edit off."""
    while handles:
        handles.pop()()


def _watch(state: dict[str, Any]) -> Callable[..., None]:
    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        cache = kwargs.get("past_key_values")
        ids = kwargs.get("input_ids", args[0] if args else None)
        mask = kwargs.get("attention_mask")
        state["before"] = 0 if cache is None else int(cache.get_seq_length())
        state["real"] = None if mask is None or mask.ndim != 2 or ids is None else mask[:, -ids.shape[1] :].bool()

    return before


def _acts(where: str, x: Tensor, state: dict[str, Any]) -> Tensor:
    """Which positions of this call a step acts at."""
    real = torch.ones_like(x[..., 0], dtype=torch.bool) if state["real"] is None else state["real"]
    last = torch.zeros_like(real)
    last[:, -1] = True
    if where == "prompt":
        return real & (state["before"] == 0)
    if where in ("generated", "released"):
        return last if state["before"] == 0 else real
    return last


def _transform(module: nn.Module, step: dict[str, Any], known: dict[str, Tensor], state: dict[str, Any]) -> Any:
    function, constants = FUNCTIONS[step["function"]], _Constants(step["constants"], known)

    def edited(x: Tensor) -> Tensor:
        part = x if step["columns"] is None else x[..., step["columns"][0] : step["columns"][1]]
        if step["reads_mask"]:
            real = torch.ones_like(x[..., 0], dtype=torch.bool) if state["real"] is None else state["real"]
            y = function(constants, part, real)
        else:
            y = function(constants, part)
        if step["where"] != "all":
            y = torch.where(_acts(step["where"], x, state)[..., None], y, part)
        if step["columns"] is None:
            return y
        return torch.cat([x[..., : step["columns"][0]], y, x[..., step["columns"][1] :]], -1)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if args:
            return (edited(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": edited(kwargs["hidden_states"])}

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        return (edited(output[0]), *output[1:]) if isinstance(output, tuple) else edited(output)

    if step["side"] == "in":
        return module.register_forward_pre_hook(before, with_kwargs=True).remove
    return module.register_forward_hook(after).remove


class _Constants:
    """The tensors of one step, by the names that its function uses."""

    def __init__(self, names: dict[str, str], known: dict[str, Tensor]) -> None:
        for name, stored in names.items():
            setattr(self, name, known[stored])


def _add_to_weight(module: nn.Module, step: dict[str, Any], known: dict[str, Tensor]) -> Callable[[], None]:
    name = step["parameter"]
    old = getattr(module, name, None)
    if old is None:
        raise ValueError(f"The model has no parameter {step['module']}.{name}: this edit belongs to another model.")
    new = old.detach().clone()
    for delta in step["deltas"]:
        _add(new, delta, known)
    # A parameter of its own, so that a table shared with the other end of the network is left alone there.
    setattr(module, name, nn.Parameter(new, requires_grad=False))

    def restore() -> None:
        setattr(module, name, old)

    return restore


def _add(weight: Tensor, delta: dict[str, Any], known: dict[str, Tensor]) -> None:
    if delta["form"] == "rows":
        weight.index_add_(0, known[delta["ids"]], known[delta["values"]].to(weight.dtype))
        return
    if delta["form"] == "low_rank":
        dense = delta["scale"] * (known[delta["b"]].double() @ known[delta["a"]].double())
    else:
        dense = known[delta["dense"]].double()
    dense = (dense.T if delta["transposed"] else dense).to(weight.dtype)
    if delta["columns"] is None:
        weight.add_(dense)
    else:
        weight.index_add_(1 if delta["transposed"] else 0, known[delta["columns"]], dense)


def main() -> None:
    """Generate from a prompt with the edit on or off."""
    import transformers

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--max-new-tokens", type=int, default=30)
    parser.add_argument("--off", action="store_true")
    asked = parser.parse_args()
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(asked.model).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(asked.model)
    batch = tokenizer(asked.prompt, return_tensors="pt", return_token_type_ids=False)
    handles = [] if asked.off else attach(model)
    with torch.no_grad(), contextlib.ExitStack() as stack:
        stack.callback(detach, handles)
        ids = model.generate(**batch, max_new_tokens=asked.max_new_tokens, do_sample=False)
    print(tokenizer.decode(ids[0], skip_special_tokens=True))  # noqa: T201


# ── the edit ────────────────────────────────────────────────────────────────────────────────────────────────────────
if __name__ == "__main__":
    main()
