"""The reader's file: the whole activations of a site, streamed, as both formats' own readers find them, and nothing left of what fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from tests.conftest import contrast_rows, words
from tests.made_edits import shift
from workbench.cli.main import app
from workbench.edits.engine import applied
from workbench.errors import BadKnob, BadSite, StorageFailed, UnknownSite
from workbench.lenses import reader_file as module
from workbench.lenses.reader_file import reader_file
from workbench.models.tensor_files import rows_written
from workbench.progress import Cancelled, Progress
from workbench.record import gather
from workbench.session import Session

TEXTS = [words(3, 7, 12, 5), words(8, 9), words(31, 32, 33)]


@pytest.mark.parametrize("site", ["resid_post@1", "head_z@1.2", "mlp_post@0"])
@pytest.mark.parametrize("ending", module.FILE_ENDINGS)
def test_both_formats_hold_every_number_of_every_token_in_each_lane(
    tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str, ending: str
) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 1)  # several batches, each padded otherwise than the whole
    edit, file = shift(tiny_gpt2, layer=0), tmp_path / f"new/site{ending}"
    told = reader_file(tiny_gpt2, texts=TEXTS, site=site, stacks=[(), (edit,)], file=file)
    batch = tiny_gpt2.tokens(TEXTS)
    lanes: list[torch.Tensor] = []
    for stack in ((), (edit,)):
        with applied(tiny_gpt2, *stack):
            lanes.append(next(iter(gather(tiny_gpt2, batch, [site], "all").values())))
    wanted = torch.stack(lanes)
    assert (told.n_texts, told.n_tokens, told.width) == (3, 9, wanted.shape[-1]) and told.n_bytes == file.stat().st_size
    if ending == ".parquet":
        table = pq.read_table(file)
        assert table.column_names == ["lane", "text", "position", "token_id", "token", "activation"] and table.num_rows == 18
        found = torch.tensor(np.stack(table["activation"].to_numpy())).view_as(wanted)
        assert table["lane"].to_pylist() == [told.lanes[0].label] * 9 + [told.lanes[1].label] * 9
        text, position, tokens = (table[name].to_pylist()[:9] for name in ("text", "position", "token"))
        assert table.schema.metadata[b"site"] == site.encode()
    else:
        with safe_open(file, "pt") as opened:
            found, notes = opened.get_tensor("activations"), opened.metadata()
            text, position, ids = (opened.get_tensor(name).tolist() for name in ("text", "position", "token_id"))
        assert ids == batch.ids[batch.mask].tolist() and notes["site"] == site and json.loads(notes["texts"]) == TEXTS
        assert json.loads(notes["lanes"]) == [lane.label for lane in told.lanes]
        tokens = json.loads(notes["tokens"])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)  # rows of another padding sum in another order
    assert text == [0] * 4 + [1] * 2 + [2] * 3 and position == [0, 1, 2, 3, 0, 1, 0, 1, 2] and tokens[4].strip() == "w8"
    assert (site == "mlp_post@0") or float((found[1] - found[0]).abs().max()) > 1e-3, "the lane is read under its edit"


def test_a_set_is_written_whole_beyond_what_the_page_reads(tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.lenses.reader.MOST_TEXTS", 2)
    told = reader_file(tiny_gpt2, demonstrations=contrast_rows(12), site="resid_post@0", file=tmp_path / "set.parquet")
    assert told.n_texts == 12 and told.rows()[0]["tokens"] == told.n_tokens


def test_what_cannot_be_written_is_refused_by_name_and_leaves_nothing(
    tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.parquet").mkdir()
    for file in ("site.txt", "site", "folder.parquet"):
        with pytest.raises(BadKnob, match="no file that ends in"):
            reader_file(tiny_gpt2, TEXTS[0], file=tmp_path / file)
    with pytest.raises(BadSite, match="is a matrix"):
        reader_file(tiny_gpt2, TEXTS[0], "w_out@1", file=tmp_path / "a.parquet")
    with pytest.raises(UnknownSite):
        reader_file(tiny_gpt2, TEXTS[0], "resid_post@9", file=tmp_path / "a.parquet")
    with pytest.raises(BadKnob, match="4 tokens of 32 numbers for each of 1 lanes"):
        reader_file(tiny_gpt2, TEXTS[0], file=tmp_path / "a.parquet", most_bytes=4 * 32 * 4 - 1)

    tell = Progress(lambda report: tell.cancel())
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 1)
    kept = tmp_path / "kept.safetensors"
    kept.write_bytes(b"as it was")
    with pytest.raises(Cancelled):
        reader_file(tiny_gpt2, texts=TEXTS, file=kept, progress=tell)
    assert kept.read_bytes() == b"as it was"
    with pytest.raises(StorageFailed, match="cannot be written"):
        reader_file(tiny_gpt2, TEXTS[0], file=kept / "below" / "a.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.parquet", "kept.safetensors"]


def test_the_command_writes_it_under_each_lane_and_says_what_it_lacks(
    tiny_gpt2: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, line, file = Session(tiny_gpt2, tmp_path / "home"), CliRunner(), tmp_path / "site.safetensors"
    monkeypatch.setattr("workbench.opening.open_session", lambda *_, **__: session)
    rows = session.demos.save(contrast_rows(30)).id
    edit = session.fit("mean_difference", rows, {"layers": [1], "strength": 9.0}).edit.id
    command = ["look", "reader_file", "--set", f"demonstrations={rows}", "--set", "site=resid_post@1", "--edit", edit, "--json"]
    told = json.loads(line.invoke(app, [*command, "--set", f"file={file}"]).stdout)
    assert told["n_bytes"] == file.stat().st_size and told["n_texts"] == 30 and len(told["lanes"]) == 2
    lacking = line.invoke(app, command)
    assert lacking.exit_code == 2 and "needs file" in lacking.output and "--set file=" in lacking.output


def test_a_file_of_rows_that_lacks_some_is_none(tmp_path: Path) -> None:
    room = rows_written(tmp_path / "a", "x", (3, 2), torch.float32, {}, {})
    with pytest.raises(ValueError, match="6 numbers, and 2 were given"), room as add:
        add(torch.zeros(1, 2))
