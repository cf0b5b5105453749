"""Interrupts between any two lines of what puts hooks on and takes them off: no hook stays, no edit stays in force."""

from __future__ import annotations

import contextlib
import linecache
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch

from workbench.models import hooks
from workbench.models.hooks import is_quiet

# Where an interrupt is forced: our own lines, and those of the two that do the work for us.
_FILES = (hooks.__file__, contextlib.__file__, torch.nn.modules.module.__file__)
_OURS = ("asked", "take", "give", "begin", "end", "_put_on", "_take_off")
_WITHIN = (*_OURS, "__enter__", "__exit__", "register_forward_hook", "register_forward_pre_hook")


class Forced(BaseException):
    """What Streamlit and Ctrl-C do: no Exception."""


def traced(call: Callable[[], None], at: int) -> int:
    """Run a call with an interrupt at its line number `at` of those in question; return how many lines it came to."""
    seen = 0

    def line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        # Python takes no interrupt where a block's lock is released, or where a `try` begins; tracing would force one there.
        holds = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() in ("with self._lock:", "try:")
        if event in ("line", "return") and not holds:
            seen += 1
            if seen == at:
                raise Forced
        return line

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        inside = frame.f_code.co_filename in _FILES and frame.f_code.co_name in _WITHIN
        return line if inside else None

    sys.settrace(enter)
    try:
        call()
    except Forced:
        pass
    finally:
        sys.settrace(None)
    return seen


def sides(model: Any) -> list[tuple[str, Any]]:
    """A reader at each kind of place: the output of a module, its input, a head, a weight."""
    return [("resid_post@0", torch.neg), ("resid_pre@1", torch.neg), ("head_z@1.0", torch.neg), ("resid_post@0", torch.neg)]


def test_an_interrupt_at_any_line_leaves_no_hook_and_no_edit_in_force(tiny_gpt2: Any) -> None:
    model = tiny_gpt2
    batch = model.tokens("w1 w2 w3")
    before, n = model.logits(batch), model.hook_count()

    def use() -> None:
        with model.intercepts(sides(model), [("w_o@1", lambda module, x, y: y + 1.0)]):
            pass

    lines = traced(use, 0)
    assert lines > 60
    for at in range(1, lines + 1):
        traced(use, at)
        assert model.hook_count() == n, (at, "a hook was left")
        assert is_quiet(), (at, "an edit stays in force")
    assert torch.equal(model.logits(batch), before)


def test_an_interrupt_in_a_nested_use_leaves_the_outer_one_as_it_was(tiny_gpt2: Any) -> None:
    model = tiny_gpt2
    batch = model.tokens("w1 w2 w3")
    with model.intercept("resid_post@0", torch.neg):
        outer, n = model.logits(batch), model.hook_count()

        def use() -> None:
            with model.intercepts(sides(model)):
                pass

        for at in range(1, traced(use, 0) + 1):
            traced(use, at)
            assert model.hook_count() == n, at
            assert torch.equal(model.logits(batch), outer), at
    assert is_quiet() and model.hook_count() == n - 1


def test_interrupts_in_one_thread_take_no_hook_from_another(tiny_gpt2: Any) -> None:
    model = tiny_gpt2
    batch, wrong, stop = model.tokens("w1 w2 w3"), [], threading.Event()
    n = model.hook_count()
    with model.intercept("resid_post@0", torch.neg):
        wanted = model.logits(batch)

    def other() -> None:
        while not stop.is_set():
            with model.intercept("resid_post@0", torch.neg):
                if not torch.equal(model.logits(batch), wanted):
                    wrong.append("another's interrupt was felt")

    def use() -> None:
        with model.intercept("resid_post@0", lambda x: x * 2):
            pass

    thread = threading.Thread(target=other)
    thread.start()
    for at in range(1, traced(use, 0) + 1):
        traced(use, at)
    stop.set()
    thread.join()
    assert not wrong and model.hook_count() == n and is_quiet()
