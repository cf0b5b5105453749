"""Inspect: all the numbers of the reader's site, of the prompt or of a whole set, as a file to take away."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from pages._ui.kit import frame, jobs, words
from pages._ui.kit.lanes import Lanes, with_base
from workbench.conversations import Prompt

if TYPE_CHECKING:
    from workbench.lenses.reader_file import SiteFile
    from workbench.progress import Progress
    from workbench.session import Session

_FORMATS = {"safetensors": "safetensors", "parquet": "Parquet"}
MOST_BYTES = 2**29
FILE: jobs.Slot[Filed, Made] = jobs.Slot("reader-file")


@dataclass(frozen=True)
class Filed:
    """A site on a prompt or on every prompt of a set, in each lane, as a file of a format."""

    site: str
    prompt: Prompt
    set_id: str
    lanes: Lanes
    ending: str


@dataclass(frozen=True)
class Made:
    """A file in a folder of its own, that is there as long as this record is."""

    told: SiteFile

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, Path(self.told.file).parent, ignore_errors=True)


def reader_file(site: str, width: int, prompt: Prompt, set_id: str, lanes: Lanes) -> None:
    """Choose a format, write the file, take it."""
    with st.expander("All its numbers, as a file", key="reader-file"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            ending = st.segmented_control("Format", list(_FORMATS), format_func=_FORMATS.__getitem__, default="safetensors",
                                          key="reader-file-format", required=True)  # fmt: skip
            asked = Filed(site, "" if set_id else prompt, set_id, lanes, ending or "safetensors")
            frame.act("Write the file", _write, asked, key="reader-file-run")
        n, each = len(with_base(lanes)), width * 4 / 1024
        of = "each prompt of the set" if set_id else "the prompt"
        st.caption(
            f"Every token of {of}: {words.count(width, 'number')} with its text, position and token, {each:,.1f} kB a token"
            f"{f' and lane, {n} lanes' if n > 1 else ''}. At most {MOST_BYTES / 2**20:,.0f} MB here; "
            "`retouch look reader_file` writes any size."
        )
        jobs.panel(FILE, _draw, settings=asked)


def _write(asked: Filed) -> None:
    stacks = with_base(asked.lanes)

    def work(session: Session, progress: Progress) -> Made:
        room = Path(tempfile.mkdtemp(prefix="retouch-reader-"))
        read: dict[str, Any] = {"demonstrations": session.demos(asked.set_id)} if asked.set_id else {"prompt": asked.prompt}
        file = room / f"retouch-{asked.site.replace('@', '-')}.{asked.ending}"
        try:
            options: dict[str, Any] = {"file": file, "most_bytes": MOST_BYTES, "stacks": stacks, "progress": progress}
            return Made(session.look("reader_file", site=asked.site, **read, **options))
        except BaseException:
            shutil.rmtree(room, ignore_errors=True)
            raise

    jobs.start(FILE, "Writing a site's numbers", work, asked)


def _draw(made: Made) -> None:
    told, file = made.told, Path(made.told.file)
    n = f"{words.count(told.n_texts, 'text')}, {words.count(told.n_tokens, 'token')} of {words.count(told.width, 'number')}"
    lanes = " and ".join(lane.label for lane in told.lanes)
    st.download_button(
        f"{file.name}, {told.n_bytes / 2**20:,.1f} MB", file.read_bytes, file.name, key="reader-file-download", icon=":material/download:",
        on_click="ignore",
    )  # fmt: skip
    st.caption(words.provenance(model=told.model, lanes=lanes, where=told.site, n=n))
