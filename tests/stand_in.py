"""Stand-ins on this machine for a package index and for the hub, each with its moods; and the environment that leads clients to them."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from workbench.models.fetching import Package, Recommended

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandIn:
    """What a server gives. mood: `whole` answers, `half` sends the first half of a file and then nothing, `silent` answers nothing."""

    files: dict[str, Path]
    mood: Literal["whole", "half", "silent"] = "whole"
    over: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    asked: list[str] = field(default_factory=list)


def _handler(given: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own word
            """Say nothing."""

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = self.path.partition("?")[0]
            given.asked.append(path)
            if given.mood == "silent":
                given.over.wait(60)
                return
            name = path.rsplit("/", 1)[-1]
            if path.startswith("/simple/") and not name:
                self._send("".join(f'<a href="/files/{file}">{file}</a>' for file in given.files).encode(), "text/html", with_body)
            elif "/tree/" in path:
                tree = [{"type": "file", "oid": _sha(f), "size": f.stat().st_size, "path": key} for key, f in given.files.items()]
                self._send(json.dumps(tree).encode(), "application/json", with_body)
            elif path.startswith("/api/models/"):
                about = {"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": file} for file in given.files]}
                self._send(json.dumps(about).encode(), "application/json", with_body)
            elif name in given.files:
                self._send(given.files[name].read_bytes(), "application/octet-stream", with_body)
            else:
                self.send_error(404)

        def _send(self, body: bytes, kind: str, with_body: bool) -> None:
            self.send_response(200)
            for key, value in {
                "Content-Type": kind, "Content-Length": str(len(body)), "X-Repo-Commit": COMMIT,
                "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            }.items():  # fmt: skip
                self.send_header(key, value)
            self.end_headers()
            if with_body and given.mood == "half" and kind.endswith("stream"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                given.over.wait(60)
            elif with_body:
                self.wfile.write(body)

    return Handler


@contextmanager
def serving(files: dict[str, Path]) -> Iterator[StandIn]:
    """Serve files as an index and as a hub until the block ends."""
    given = StandIn(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(given))
    given.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield given
    finally:
        given.over.set()
        server.shutdown()
        server.server_close()


def leading_to(url: str | None = None, *, wheels: Path | None = None) -> dict[str, str]:
    """The environment in which pip asks only this index, or only this folder of wheels, whatever the machine's own settings say."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")} | {"PIP_CONFIG_FILE": os.devnull}
    if url is not None:
        environment["PIP_INDEX_URL"] = f"{url}/simple/"
    if wheels is not None:
        environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    return environment


def carried(file: Path, room: Path) -> tuple[Path, Recommended]:
    """A wheel that carries a GGUF file, and the recommended model that names both."""
    wheel = room / "carrier-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.write(file, "carrier/m.gguf")
        made.writestr("carrier/more.bin", os.urandom(4_000_000))  # so that half of it is seen on disk before the rest comes
        made.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        made.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr("carrier-1.0.dist-info/RECORD", "")
    package = Package("carrier", "1.0", wheel.stat().st_size, _sha(wheel), "carrier/m.gguf", _sha(file), "eight-bit weights")
    return wheel, Recommended("tiny", "org/tiny", "Tiny", 10, "Apache-2.0", False, "", package)


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def as_code(item: Recommended, models: Path) -> str:
    """Python that fetches the model, for a process of its own."""
    told: dict[str, Any] = {**vars(item), "package": None if item.package is None else vars(item.package)}
    return (
        "import sys, json; from pathlib import Path; from workbench.models.fetching import Package, Recommended, fetch; "
        f"told = json.loads({json.dumps(json.dumps(told))}); carried = told.pop('package'); "
        "item = Recommended(**told, package=carried and Package(**carried)); "
        f"print(fetch('{item.name}', (item,), Path({str(models)!r})))"
    )
