"""Model, left side: what is on this machine, what is worth getting, a folder or file, a hub id; each a click from being loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import frame, jobs, loading, words
from pages._ui.kit.asked_model import DTYPE, AskedModel
from pages._ui.kit.backend import backend
from pages._ui.kit.state import FIRST, state
from workbench.errors import RetouchError
from workbench.workspace.last_used import UsedModel, last_used

if TYPE_CHECKING:
    from workbench.models import catalog
    from workbench.models.listing import Entry
    from workbench.progress import Progress
    from workbench.session import Session

WHERE = ("Here", "To get", "Folder", "Hub")
FLOATS = (DTYPE, "bfloat16", "float16", "float64")
ESTIMATE: jobs.Slot[AskedModel, catalog.MemoryEstimate] = jobs.Slot("estimate", of_tab=True)


def choose() -> None:
    """Choose a model, see what it needs, load or get it."""
    st.session_state.setdefault("model-where", WHERE[0])
    where = st.segmented_control("Where is it?", WHERE, key="model-where", required=True, persist_state="session")
    loading.progress_panel()
    session = backend().sessions.get(FIRST)
    if session is None:
        st.caption("What is on this machine will be listed here in a moment.")
        return
    from workbench.models.devices import quantised_here

    with st.expander("Number type and device"):
        types = [*FLOATS, *quantised_here()]
        dtype = st.segmented_control("Number type", types, default=DTYPE, key="model-dtype", required=True) or DTYPE
        device = st.selectbox("Device", backend().devices(), key="model-device")
    if where == "Folder":
        _typed("Folder or GGUF file", "/path/to/a/folder or model.gguf", "model-folder", session, dtype, device)
    elif where == "Hub":
        _typed("Hub id", "openai-community/gpt2", "model-hub", session, dtype, device)
    else:
        _list(where or WHERE[0], session, dtype, device)


@st.cache_data(ttl=20, show_spinner=False)
def _entries(folder: str, _session: Session) -> tuple[Entry, ...]:
    """What the session lists; a large cache of the hub takes a moment to look through."""
    return _session.catalog()


def _list(where: str, session: Session, dtype: str, device: str) -> None:
    found = _entries(str(session.workspace.folder), session)
    used = {item.name: item for item in last_used(session.workspace)}
    if where == "To get":
        for entry in (entry for entry in found if entry.is_recommended):
            _row(entry, dtype, device, None)
        return
    here = [entry for entry in found if entry.is_present]
    here.sort(key=lambda entry: -used[entry.name].at if entry.name in used else 0.0)
    for entry in here:
        _row(entry, dtype, device, used.get(entry.name))
    others = [item for name, item in used.items() if name not in {entry.name for entry in found}]
    if others:
        st.caption("Used before")
    for item in others:
        _used_row(item)


def _row(entry: Entry, dtype: str, device: str, used: UsedModel | None) -> None:
    """A model with what it is, whether it fits, and its one button."""
    asked, fits, key = AskedModel(entry.name, dtype, device), entry.fits_in(dtype, device), _slug(entry.name)
    with st.container(border=True, key=f"model-row-{key}", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{words.plain(entry.title)}**", width="stretch")
            if entry.is_present and asked.key == state().model:
                st.caption("this tab's model", width="content")
            elif entry.is_present:
                frame.act("Load", loading.load, asked, key=f"load-{key}", disabled=not fits)
            else:
                is_busy = jobs.is_running(_getting(entry))
                frame.act("Get", _get, entry, key=f"get-{key}", disabled=is_busy or not fits)
        st.caption(words.plain(_facts(entry, dtype, fits, used)))
        if not fits:
            st.caption(f":orange[{words.plain(_too_large(entry, dtype, device))}]")
        if not entry.is_present:
            jobs.panel(_getting(entry), lambda _: None)


def _facts(entry: Entry, dtype: str, fits: bool, used: UsedModel | None) -> str:
    parts = [entry.name] if entry.name != entry.title else []
    parts += [f"{words.parameters(entry.parameters)} parameters"] if entry.parameters else ["size known once it is loaded"]
    parts += [entry.licence] if entry.licence else []
    if entry.parameters and fits:
        parts.append(f"needs {words.size(entry.needs(dtype))}: fits")
    parts += ["in the hub's cache"] if entry.kind == "cached" else []
    parts += [f"used {words.ago(used.at)}"] if used is not None else []
    return " · ".join(parts) + (f". {entry.note}" if entry.note else "")


def _too_large(entry: Entry, dtype: str, device: str) -> str:
    from workbench.models.catalog import bytes_free

    says = f"Does not fit: needs {words.size(entry.needs(dtype))} in {dtype}, {words.size(bytes_free(device))} are free."
    half = "bfloat16"
    return f"{says} In {half} it would fit." if dtype in (DTYPE, "float64") and entry.fits_in(half, device) else says


def _getting(entry: Entry) -> jobs.Slot[AskedModel, str]:
    return jobs.Slot(f"get-{_slug(entry.name)}", of_tab=True)


def _get(entry: Entry) -> None:
    def work(progress: Progress) -> str:
        loading.fetch(entry.name, progress)
        _entries.clear()
        return entry.name

    jobs.begin(_getting(entry), f"Getting {entry.name}", work, AskedModel(entry.name))


def _used_row(item: UsedModel) -> None:
    asked = AskedModel(item.name, item.dtype, item.device)
    with st.container(border=True, key=f"model-row-{_slug(item.name)}", gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{words.plain(Path(item.name).name)}**", width="stretch")
            if asked.key == state().model:
                st.caption("this tab's model", width="content")
            else:
                frame.act("Load", loading.load, asked, key=f"load-{_slug(item.name)}")
        st.caption(words.plain(f"{item.name} · {item.dtype} on {item.device} · used {words.ago(item.at)}"))


def _typed(label: str, example: str, key: str, session: Session, dtype: str, device: str) -> None:
    """A folder, a file or a hub id that is typed; what is known of it before it is loaded stands below."""
    name = st.text_input(label, placeholder=example, key=key, persist_state="session").strip()
    if key == "model-hub":
        st.caption("Needs a network, or a model that is in the hub's cache. A hub that is silent is given up after 3 seconds.")
    elif name.lower().endswith(".gguf"):
        note(session, name)
    else:
        st.caption(
            "A folder that `save_pretrained` wrote, or a .gguf file. A GGUF file usually holds weights rounded to a few bits; they are "
            "written out in full to compute with, and what rounding lost does not come back."
        )
    settings = AskedModel(name, dtype, device)
    with st.container(horizontal=True):
        frame.act("Check size", _check, settings, key="model-check", disabled=not name)
        frame.act("Load", loading.load, settings, type="primary", key="model-load", disabled=not name)
    jobs.panel(ESTIMATE, _estimate, settings=settings)


def note(session: Session, name: str) -> None:
    """What to know of a model's files: licence, origin, what was done to the weights."""
    try:
        st.caption(words.plain(session.model_note(name)))
    except RetouchError as error:
        frame.problem(error, "note")


def _check(settings: AskedModel) -> None:
    session = backend().sessions[FIRST]

    def work(_: Progress) -> catalog.MemoryEstimate:
        return session.estimate(settings.name, dtype=settings.dtype, device=settings.device)

    jobs.begin(ESTIMATE, f"Looking up {settings.name}", work, settings)


def _estimate(size: catalog.MemoryEstimate) -> None:
    sign = "fits" if size.fits else "does not fit"
    st.markdown(f"**{words.parameters(size.n_parameters)} parameters**, {words.plain(size.architecture)}: {sign}.")
    st.progress(min(1.0, size.bytes_needed / max(1, size.bytes_free)))
    st.caption(f"Needs about {words.size(size.bytes_needed)} of {words.size(size.bytes_free)} that are free now.")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())
