"""Read texts with a Backpack once, and keep what every later sense edit needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.models.backpack.network import BackpackNetwork
from workbench.numerics.sense_affine import ReadText, mean_embedding
from workbench.operations import wide
from workbench.progress import Progress, silent

_TOKENS_AT_ONCE = 4096


@torch.no_grad()
def read_texts(
    network: BackpackNetwork,
    texts: Sequence[tuple[Sequence[int], Sequence[int]]],
    with_neutral: bool = False,
    progress: Progress | None = None,
) -> list[ReadText]:
    """Return each text's rows before the unembedding, with the queries and keys behind their weights.

    Texts are right-padded into batches of similar length: reading is causal, so padding changes nothing before it.

    Args:
        network: the Backpack.
        texts: token ids, and the positions whose predictions will be asked for, ascending.
        with_neutral: also keep the mean embedding under the prediction, for KL terms.
    """
    tell = progress or silent()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]))
    found: dict[int, ReadText] = {}
    start = 0
    while start < len(order):
        longest, end = 0, start
        while end < len(order) and (end == start or len(texts[order[end]][0]) * (end - start + 1) <= _TOKENS_AT_ONCE):
            longest, end = len(texts[order[end]][0]), end + 1
        batch = order[start:end]
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, i in enumerate(batch):
            ids[row, : len(texts[i][0])] = torch.tensor(texts[i][0])
        for i, text in zip(batch, _read(network, ids, [texts[i] for i in batch], with_neutral), strict=True):
            found[i] = text
        start = end
        tell(start / len(order), "Reading texts")
    return [found[i] for i in range(len(texts))]


def _read(
    network: BackpackNetwork, ids: Tensor, texts: Sequence[tuple[Sequence[int], Sequence[int]]], with_neutral: bool
) -> list[ReadText]:
    net, E = network.backpack.sense_weight_net, wide(network.backpack.gpt2_model.wte.weight)
    ids = ids.to(E.device)
    queries, keys = net.queries_keys(network.body(ids))
    causal = None  # right padding: nothing real reads it
    o = network.mix(net(queries, keys, causal), network.looked_up(ids, network.senses(ids)))
    read: list[ReadText] = []
    for row, (tokens, wanted) in enumerate(texts):
        rows = torch.tensor(wanted, dtype=torch.long, device=E.device)
        h0 = wide(o[row, rows])
        neutral = mean_embedding(h0, E) if with_neutral else None
        read.append(ReadText(ids[row, : len(tokens)], rows, h0, wide(queries[row, rows]), wide(keys[row, : len(tokens)].clone()), neutral))
    return read
