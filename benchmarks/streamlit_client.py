"""A tab without a browser: it speaks Streamlit's protobuf over a websocket, keeps widgets' values and runs fragments on their timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

_LARGEST = 64 * 2**20


@dataclass
class SocketTab:
    """One tab. `ids` maps the keys of what is drawn to widget ids, `texts` holds every text of the page.

    url: of the server, `http://host:port`. cookie: what the browser brings. look: called with every message as it came.
    """

    url: str
    cookie: str
    look: Callable[[bytes], None] = lambda _: None
    query: str = ""
    ids: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    page: str = ""
    values: dict[str, WidgetState] = field(default_factory=dict)
    n_runs: int = 0
    socket: ClientConnection | None = None
    _timers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _finished: asyncio.Event = field(default_factory=asyncio.Event)
    _reader: asyncio.Task[None] | None = None

    async def open(self, timeout_s: float = 120) -> float:
        """Connect and draw the first page; return the seconds that took."""
        address = self.url.replace("http://", "ws://") + "/_stcore/stream"
        headers = {"Cookie": self.cookie}
        self.socket = await connect(
            address, subprotocols=["streamlit"], additional_headers=headers, max_size=_LARGEST, ping_interval=None, open_timeout=timeout_s
        )  # pyright: ignore[reportArgumentType]
        self._reader = asyncio.create_task(self._read())
        return await self.run(timeout_s)

    async def close(self) -> None:
        """Close the tab, as a person does: without a word."""
        self._stop_timers()
        if self.socket is not None:
            await self.socket.close()
        if self._reader is not None:
            await self._reader

    async def go(self, page: str, timeout_s: float = 120) -> float:
        """Go to a page by its address (empty: the first); return the seconds until it is drawn."""
        self.page = self.pages[page]
        return await self.run(timeout_s)

    async def click(self, key: str, timeout_s: float = 120) -> float:
        """Press a button by its key; return the seconds until the page is drawn. Raises: KeyError, if there is none."""
        return await self.run(timeout_s, WidgetState(id=self.ids[key], trigger_value=True))

    def type(self, key: str, text: str) -> None:
        """Put a text into a box; the next run brings it along. Raises: KeyError, if there is no such box."""
        self.values[key] = WidgetState(id=self.ids[key], string_value=text)

    async def run(self, timeout_s: float, pressed: WidgetState | None = None) -> float:
        """Run the page; return the seconds until it is drawn.

        Raises: TimeoutError. ConnectionError: the server hung up, or said what is not understood.
        """
        began = time.monotonic()
        self._finished.clear()
        await self._send(pressed)
        drawn = asyncio.create_task(self._finished.wait())
        assert self._reader is not None
        await asyncio.wait({drawn, self._reader}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not drawn.done():
            drawn.cancel()
            if self._reader.done():
                raise ConnectionError(f"The server hung up: {self._reader.exception()!r}")
            raise TimeoutError(f"The page was not drawn within {timeout_s:g} s.")
        self.n_runs += 1
        return time.monotonic() - began

    async def _send(self, pressed: WidgetState | None = None, fragment: str = "") -> None:
        message = BackMsg()
        asked = message.rerun_script
        asked.query_string, asked.page_script_hash, asked.fragment_id = self.query, self.page, fragment
        asked.is_auto_rerun = bool(fragment)
        asked.widget_states.widgets.extend([*self.values.values(), *([pressed] if pressed is not None else [])])
        if self.socket is not None:
            await self.socket.send(message.SerializeToString())

    async def _read(self) -> None:
        assert self.socket is not None
        try:
            async for raw in self.socket:
                if isinstance(raw, bytes):
                    self.look(raw)
                    self._take(raw)
        except ConnectionClosed:
            return

    def _take(self, raw: bytes) -> None:
        message = ForwardMsg()
        message.ParseFromString(raw)
        kind = message.WhichOneof("type")
        if kind == "new_session" and not message.metadata.run.fragment_ids:
            self._stop_timers()
            self.ids.clear()
            self.page = message.new_session.page_script_hash
        elif kind == "navigation":
            self.pages = {page.url_pathname if not page.is_default else "": page.page_script_hash for page in message.navigation.app_pages}
        elif kind == "page_info_changed":
            self.query = message.page_info_changed.query_string
        elif kind == "auto_rerun":
            self._repeat(message.auto_rerun.fragment_id, message.auto_rerun.interval)
        elif kind == "stop_auto_rerun":
            for fragment in message.stop_auto_rerun.fragment_ids:
                if (timer := self._timers.pop(fragment, None)) is not None:
                    timer.cancel()
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            self._note(message.delta.new_element)
        elif kind == "script_finished" and message.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
            self._finished.set()

    def _note(self, element: Any) -> None:
        drawn = getattr(element, element.WhichOneof("type") or "", None)
        widget = getattr(drawn, "id", "")
        if isinstance(widget, str) and widget.startswith("$$ID-"):
            self.ids[widget.split("-", 2)[2]] = widget

    def _repeat(self, fragment: str, interval: float) -> None:
        async def again() -> None:
            while True:
                await asyncio.sleep(interval)
                await self._send(fragment=fragment)

        if fragment not in self._timers:
            self._timers[fragment] = asyncio.create_task(again())

    def _stop_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
