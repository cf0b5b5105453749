"""All that a site holds, in a file: a row of numbers a token, over prompts or a whole set, written as it is read.

A file `.safetensors` holds `activations` (lane, token, width), the tokens of all texts one behind another, and for each token `text` (which
one), `position` (in its text) and `token_id`; its metadata names model, site and lanes, and has `texts` and `tokens` as JSON. A file
`.parquet` has a row a token and lane: lane, text, position, token_id, token, activation. Numbers are float32, of a float64 model float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.conversations import Prompt
from workbench.data.demonstrations import Demonstrations
from workbench.edits.base import Edit
from workbench.edits.engine import applied
from workbench.edits.labels import LaneLabel, lane_labels
from workbench.errors import BadKnob, StorageFailed
from workbench.lenses.reader import texts_of, token_site
from workbench.models.base import LanguageModel
from workbench.models.tensor_files import rows_written
from workbench.models.token_texts import token_texts
from workbench.operations import wide
from workbench.progress import Progress, silent
from workbench.record import stream
from workbench.shapes import Float, Int, Tensor
from workbench.whole import put, room_beside

FILE_ENDINGS = (".safetensors", ".parquet")
_AT_ONCE = 2**24  # numbers of one batch: 64 MB of float32
_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class SiteFile:
    """What was written where: `n_tokens` rows of `width` numbers for each lane, `n_bytes` in all."""

    model: str
    lanes: tuple[LaneLabel, ...]
    site: str
    file: str
    n_texts: int
    n_tokens: int
    width: int
    n_bytes: int

    def rows(self) -> list[dict[str, Any]]:
        """One table row, as it is printed."""
        lanes = ", ".join(lane.label for lane in self.lanes)
        told = {"site": self.site, "lanes": lanes, "texts": self.n_texts, "tokens": self.n_tokens, "width": self.width}
        return [{**told, "bytes": self.n_bytes, "file": self.file}]


@dataclass(frozen=True)
class _Told:
    """What stands beside the numbers, the same for each lane."""

    model: str
    site: str
    lanes: tuple[str, ...]
    texts: tuple[str, ...]
    text: Int[Tensor, " token"]
    position: Int[Tensor, " token"]
    token_id: Int[Tensor, " token"]
    tokens: tuple[str, ...]
    width: int
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        """Of the numbers alone."""
        return len(self.lanes) * len(self.tokens) * self.width * self.dtype.itemsize


Write = Callable[[int, int, Float[Tensor, "token width"]], None]
"""Of a lane, from a token on."""


def reader_file(
    model: LanguageModel,
    prompt: Prompt | None = None,
    site: str = "resid_post@0",
    stacks: Sequence[Sequence[Edit]] = ((),),
    *,
    file: str | Path,
    texts: Sequence[Prompt] | None = None,
    demonstrations: Demonstrations | None = None,
    most_bytes: int | None = None,
    progress: Progress | None = None,
) -> SiteFile:
    """Write what a site holds at every token, under each stack of edits. Memory: one batch.

    Args:
        prompt, texts, demonstrations: what is read, one of them: a prompt, several, or every prompt of a set.
        site: for example resid_post@5, head_z@3.7, mlp_post@2. file: it ends in one of `FILE_ENDINGS`; it is replaced where it is there.
        most_bytes: refuse to begin a file of more numbers.

    Raises:
        UnknownSite: the model has no such site. BadSite: it is a matrix. BadKnob: another format, a folder, too large, or several kinds of
        texts are given. BadPrompt: there is none. NotFinite: the model gives NaN there. StorageFailed: the disk refuses; nothing is left.
        Cancelled: between two batches; nothing is left. Others: as `engine.lanes`.
    """
    tell, goal, address = progress or silent(), Path(file), token_site(site)
    if goal.suffix not in FILE_ENDINGS or goal.is_dir():
        raise BadKnob(f"{str(file)!r} is no file that ends in {' or '.join(FILE_ENDINGS)}.", "Name one, for example file=run.safetensors.")
    given = texts_of(prompt, texts, demonstrations)
    batch, width, labels = model.tokens(given), model.width(address), lane_labels(stacks)
    ids = batch.ids[batch.mask].cpu()
    dtype = torch.float64 if model.dtype == torch.float64 else torch.float32
    told = _Told(
        model.info.name, str(address), tuple(lane.label for lane in labels), tuple(map(str, given)),
        batch.mask.nonzero()[:, 0].cpu(), batch.positions[batch.mask].cpu(), ids, token_texts(model.tokenizer, ids), width, dtype,
    )  # fmt: skip
    if most_bytes is not None and told.n_bytes > most_bytes:
        size = f"{len(ids):,} tokens of {width:,} numbers for each of {len(labels)} lanes are {told.n_bytes / 2**20:,.0f} MB"
        raise BadKnob(f"{size}; {most_bytes / 2**20:,.0f} MB is the most.", "Read fewer texts or lanes, or one head.")
    at_once = max(1, min(_ROWS_AT_ONCE, _AT_ONCE // (batch.ids.shape[1] * width)))
    try:
        with room_beside(goal) as room:
            with _open(room / goal.name, told) as write:
                for i, stack in enumerate(stacks):
                    begin, part = 0, tell.part(i / len(stacks), (i + 1) / len(stacks))
                    with applied(model, *stack):
                        for seen in stream(model, batch, [address], "all", batch_size=at_once, progress=part):
                            write(i, begin, wide(seen[address]).cpu())
                            begin += len(seen[address])
            n_bytes = (room / goal.name).stat().st_size
            put(room / goal.name, goal)
    except OSError as error:
        raise StorageFailed(f"{goal} cannot be written: {error.strerror or error}.", "Free some space or name another file.") from error
    tell(1.0, "Done")
    return SiteFile(model.info.name, labels, str(address), str(goal), len(given), len(ids), width, n_bytes)


@contextmanager
def _open(path: Path, told: _Told) -> Generator[Write]:
    with (_safetensors if path.suffix == ".safetensors" else _parquet)(path, told) as write:
        yield write


@contextmanager
def _safetensors(path: Path, told: _Told) -> Generator[Write]:
    notes = {"model": told.model, "site": told.site}
    notes |= {name: json.dumps(getattr(told, name), ensure_ascii=False) for name in ("lanes", "texts", "tokens")}
    beside = {name: getattr(told, name) for name in ("text", "position", "token_id")}
    shape = (len(told.lanes), len(told.tokens), told.width)
    with rows_written(path, "activations", shape, told.dtype, beside, notes) as append:
        yield lambda lane, begin, rows: append(rows)


@contextmanager
def _parquet(path: Path, told: _Told) -> Generator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind: Any = pa.list_(pa.float64() if told.dtype == torch.float64 else pa.float32(), told.width)
    columns = [("lane", pa.string()), ("text", pa.int64()), ("position", pa.int64()), ("token_id", pa.int64()), ("token", pa.string())]
    notes = {"model": told.model, "site": told.site, "texts": json.dumps(told.texts, ensure_ascii=False)}
    schema: Any = pa.schema([*columns, ("activation", kind)], metadata=notes)
    with pq.ParquetWriter(path, schema) as file:

        def write(lane: int, begin: int, rows: Tensor) -> None:
            at = slice(begin, begin + len(rows))
            beside = [getattr(told, name)[at].tolist() for name in ("text", "position", "token_id")]
            numbers: Any = pa.FixedSizeListArray.from_arrays(rows.to(told.dtype).contiguous().view(-1).numpy(), told.width)
            file.write_table(pa.table([[told.lanes[lane]] * len(rows), *beside, list(told.tokens[at]), numbers], schema=schema))

        yield write
