"""Take an edit home: what is possible, what is refused and why, and the files."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import streamlit as st

from pages._ui.kit import calls, jobs, words

TITLES = {
    "checkpoint": "Checkpoint: a Hugging Face folder with the edit folded in",
    "peft": "PEFT: a low-rank adapter",
    "script": "Script: a Python file and tensors, needs torch and transformers",
    "report": "Report: one HTML file",
}


def panel(session: Any, item: Any, fits: bool) -> None:
    """Export buttons of a saved edit."""
    st.markdown("**Take it home**")
    st.download_button(
        "Edit folder (JSON and safetensors)",
        lambda: zipped(session.workspace.edits.folder(item.id)),
        f"{item.name}.zip",
        "application/zip",
        key=f"zip-{item.id}",
        on_click="ignore",
    )
    targets = session.load_edit(item.id).possible_exports()
    for target, answer in targets.items():
        reason = getattr(answer, "reason", "")
        if reason:
            st.caption(f"~~{words.plain(TITLES[target].split(':')[0])}~~ {words.plain(reason)}")
        elif fits:
            _export(item, target)


def _export(item: Any, target: str) -> None:
    slot = f"export-{target}"
    settings = {"edit": item.id, "target": target}
    title = TITLES[target]

    def begin() -> None:
        jobs.start(slot, f"Exporting as {target}", lambda session, progress: _made(session, item, target, progress), settings)

    st.button(f"Make: {title.split(':')[0].lower()}", help=title, key=slot, on_click=begin)
    if jobs.settings_of(slot).get("edit", item.id) == item.id:
        jobs.panel(slot, lambda made: _download(made, item, target), settings=settings)


def _made(session: Any, item: Any, target: str, progress: Any) -> tuple[bytes, str]:
    """Export into a folder of its own; return it zipped, and what the report says."""
    progress(0.1, "Writing")
    with tempfile.TemporaryDirectory() as folder:
        report = session.export(item.id, target, Path(folder) / "export")
        return zipped(Path(folder) / "export"), calls.parity(report)


def _download(made: tuple[bytes, str], item: Any, target: str) -> None:
    content, parity = made
    label, name = f"Download {target} ({words.size(len(content))})", f"{item.name}-{target}.zip"
    st.download_button(label, content, name, "application/zip", key=f"get-{target}-{item.id}", type="primary", on_click="ignore")
    if parity:
        st.caption(words.plain(parity))


def zipped(folder: Path) -> bytes:
    """A folder, or a file, as a zip file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            archive.write(path, path.name if folder.is_file() else path.relative_to(folder))
    return content.getvalue()
