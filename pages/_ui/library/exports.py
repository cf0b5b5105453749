"""Take an edit home: what is possible, what is refused and why, and the files."""

from __future__ import annotations

import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from pages._ui.kit import jobs, words

if TYPE_CHECKING:
    from workbench.edits.base import ExportTarget
    from workbench.progress import Progress
    from workbench.session import Session
    from workbench.workspace.edits import EditInfo

TITLES = {
    "checkpoint": "Checkpoint: a Hugging Face folder with the edit folded in",
    "peft": "PEFT: a low-rank adapter",
    "script": "Script: a Python file and tensors, needs torch and transformers",
    "report": "Report: one HTML file",
}


@dataclass(frozen=True)
class Exported:
    """A saved edit, and what it becomes."""

    edit: str
    target: ExportTarget


def panel(session: Session, item: EditInfo, fits: bool) -> None:
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
    targets = session.load_edit(item.id).possible_exports(session.model if fits else None)
    for target, answer in targets.items():
        reason = getattr(answer, "reason", "")
        if reason:
            st.caption(f"~~{words.plain(TITLES[target].split(':')[0])}~~ {words.plain(reason)}")
        elif fits:
            _export(item, target)


def _export(item: EditInfo, target: ExportTarget) -> None:
    # The files in one zip, and how far they are from the app.
    slot: jobs.Slot[Exported, tuple[bytes, str]] = jobs.Slot(f"export-{target}")
    settings = Exported(item.id, target)
    title = TITLES[target]

    def begin() -> None:
        jobs.start(slot, f"Exporting as {target}", lambda session, progress: _made(session, item, target, progress), settings)

    st.button(f"Make: {title.split(':')[0].lower()}", help=title, key=slot.name, on_click=begin)
    if jobs.settings_of(slot) in (None, settings):
        jobs.panel(slot, lambda made: _download(made, item, target), settings=settings)


def _made(session: Session, item: EditInfo, target: ExportTarget, progress: Progress) -> tuple[bytes, str]:
    """Export into a folder of its own; return it zipped, and what the report says."""
    progress(0.1, "Writing")
    with tempfile.TemporaryDirectory() as folder:
        report = session.export(item.id, target, Path(folder) / "export")
        content = zipped(Path(folder) / "export")
    if report.parity is None:
        return content, ""
    return content, f"Largest difference of log-probabilities between the export and the app: {report.parity:.2g} nats"


def _download(made: tuple[bytes, str], item: EditInfo, target: ExportTarget) -> None:
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
