"""How soon the app answers an action, and what texts and geometry cost on a real model.

    python -m benchmarks.feedback app [--rounds 5]                       # the embedded model: each action beside a run that changes nothing
    python -m benchmarks.feedback texts [--model smollm2-135m] [--rounds 3]   # 24 tokens beside generate()
    python -m benchmarks.feedback geometry [--model smollm2-135m]        # of 256 texts

`first`: seconds until the page changes, `whole`: until it, or the new text, is drawn; both by the clock, without a browser. `processor`:
what the server used until then. On a machine that others share the last is the truer one, and its difference to the run that changes
nothing truer still.
Aims (two quiet cores): first change of each action 0.3 s; dose to new text 1 s; 24 tokens at most 1.25 × generate(); 256 texts 30 s.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil
import torch
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState

from benchmarks.streamlit_client import SocketTab
from tests.browser.conftest import Server
from workbench.data.demonstrations import Demonstrations
from workbench.lenses.geometry import demonstration_geometry
from workbench.models.catalog import load
from workbench.sampling import Sampling
from workbench.session import Session

_PAGES = ("model", "inspect", "demonstrations", "edit", "compare", "spectra", "evaluate", "library", "learn", "")
_TOKENS, _TEXTS = 24, 256


@dataclass
class Watched:
    """A server with a tab, and when something changed on the page: what says the same as before at its place is no change.

    `first` is when anything did, `said` when a text of a lane did; seconds since `began`.
    """

    server: Server
    tab: SocketTab
    began: float = 0.0
    first: float | None = None
    said: float | None = None
    stood: dict[tuple[int, ...], bytes] = field(default_factory=dict[tuple[int, ...], bytes])

    def look(self, raw: bytes) -> None:
        """Note what a message draws."""
        message = ForwardMsg()
        message.ParseFromString(raw)
        if message.WhichOneof("type") != "delta":
            return
        place, told = tuple(message.metadata.delta_path), message.delta.SerializeToString(deterministic=True)
        if self.stood.get(place) == told:
            return
        self.stood[place], now = told, time.monotonic() - self.began
        self.first = now if self.first is None else self.first
        if self.said is None and message.delta.new_element.bidi_component.component_name.endswith("token_strip"):
            self.said = now

    def used(self) -> float:
        """Processor seconds of the server and what it started."""
        mine = psutil.Process(self.server.process.pid)
        return sum(sum(one.cpu_times()[:2]) for one in (mine, *mine.children(recursive=True)))

    async def quiet(self) -> None:
        """Wait until nothing runs: a running job's fragment would count."""
        before = self.used()
        while True:
            await asyncio.sleep(1.0)
            if (now := self.used()) - before < 0.1:
                return
            before = now

    async def act(self, do: Callable[[], Coroutine[Any, Any, float]], *, until_said: bool = False) -> tuple[float, float, float]:
        """Do something; seconds until the first change and until the page, or a new text, is drawn, and processor seconds.

        Raises: TimeoutError, if no new text comes within a minute.
        """
        await self.quiet()
        used, self.began, self.first, self.said = self.used(), time.monotonic(), None, None
        whole = await do()
        while until_said and self.said is None:
            if time.monotonic() - self.began > 60:
                raise TimeoutError("No new text was drawn.")
            await asyncio.sleep(0.01)
        return self.first or whole, self.said if until_said and self.said else whole, self.used() - used


def _number(tab: SocketTab, key: str, value: float) -> None:
    """Move a slider."""
    state = WidgetState(id=tab.ids[key])
    state.double_array_value.data.append(value)
    tab.values[key] = state


async def _prepared(one: Watched) -> str:
    """Fit by the first card, turn the edit on, and compare once; the key of its dose."""
    tab = one.tab
    await tab.open()
    await tab.click("start-truthful", 300)
    while "fit-compare" not in tab.ids:
        await asyncio.sleep(1.0)
        await tab.run(120)
    await one.quiet()
    await tab.run(120)
    await tab.click("fit-compare", 120)
    await tab.run(120)
    await tab.click("compare", 120)
    await one.quiet()
    await tab.run(120)
    return next(key for key in tab.ids if key.startswith("dose-"))


async def app(rounds: int) -> list[dict[str, Any]]:
    """Every action so many times; medians."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            tab = SocketTab(server.url, "retouch_person=" + "0" * 32)
            one = Watched(server, tab)
            tab.look = one.look
            dose = await _prepared(one)
            for i in range(rounds):
                found.setdefault("nothing changes (Compare)", []).append(await one.act(lambda: tab.run(120)))
                _number(tab, dose, 0.5 + 0.25 * (i % 5))
                found.setdefault("dose to new text", []).append(await one.act(lambda: tab.run(120), until_said=True))
                found.setdefault("Compare", []).append(await one.act(lambda: tab.click("compare", 120)))
                for page in _PAGES:
                    name = f"to {page or 'start'}"
                    found.setdefault(name, []).append(await one.act(lambda page=page: tab.go(page)))
                await tab.go("compare")
            await tab.close()
        finally:
            server.stop()
    return [
        {"action": name, **{what: round(statistics.median(each), 3) for what, each in zip(("first", "whole", "processor"), zip(*times))},
         "n": len(times)}
        for name, times in found.items()
    ]  # fmt: skip


def texts(name: str, rounds: int) -> list[dict[str, Any]]:
    """Texts beside `generate()`, in processor seconds: as written, and with what Compare shows of each token."""
    loaded = load(name)
    prompt, how, network = "The lighthouse keeper looked out over the sea and", Sampling(_TOKENS), cast("Any", loaded.network)
    batch, end = loaded.tokens(prompt), loaded.tokenizer.eos_token_id
    loaded.tokenizer.eos_token_id = network.generation_config.eos_token_id = None  # all write as many tokens

    def plain() -> None:
        with torch.no_grad():
            network.generate(
                input_ids=batch.ids, attention_mask=batch.mask.long(), max_new_tokens=_TOKENS, min_new_tokens=_TOKENS, do_sample=False,
                pad_token_id=end,
            )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        session = Session(loaded, Path(folder))
        ways: dict[str, Callable[[], object]] = {
            "written": lambda: session.generate(prompt, sampling=how),
            "with what Compare shows": lambda: session.compare(prompt, [()], how),
        }
        found: dict[str, list[float]] = {}
        for at in range(rounds + 1):
            for told, way in ways.items():
                ratio = _processor(way) / _processor(plain)
                found.setdefault(told, []).extend([ratio] if at else [])  # the first round warms up
    return [
        {"what": f"{_TOKENS} tokens {told}, over generate()", "value": round(statistics.median(every), 3)} for told, every in found.items()
    ]


def geometry(name: str) -> list[dict[str, Any]]:
    """Geometry of so many texts, in processor seconds."""
    loaded = load(name)
    with tempfile.TemporaryDirectory() as folder:
        pairs = Session(loaded, Path(folder)).demos("truthfulness").rows[: _TEXTS // 2]
        took = _processor(lambda: demonstration_geometry(loaded, Demonstrations(tuple(pairs), "pairs")))
    return [{"what": f"geometry of {2 * len(pairs)} texts, s", "value": round(took, 1)}]


def _processor(do: Callable[[], object]) -> float:
    began = time.process_time()
    do()
    return time.process_time() - began


def main() -> None:
    """Measure what the command line names, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("app", "texts", "geometry"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    do = {"app": lambda: asyncio.run(app(asked.rounds)), "texts": lambda: texts(asked.model, asked.rounds)}
    for row in do.get(asked.what, lambda: geometry(asked.model))():
        print(row)


if __name__ == "__main__":
    main()
