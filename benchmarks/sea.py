"""SEA's speed as a ratio: thin factors against dense covariance and full SVD (7B shape).

python -m benchmarks.sea --d 4096 --n 200 2000        # the dense reference takes minutes on one core
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from workbench.numerics.covariance import CrossMoments


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def activations(n: int, d: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Rows with a decaying spectrum and a mean, as residual streams have."""
    draw = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, d + 1, dtype=torch.float64) ** -0.5
    base = torch.randn(n, d, generator=draw, dtype=torch.float64) * scale
    noise = [torch.randn(n, d, generator=draw, dtype=torch.float64) * scale for _ in range(2)]
    return {"base": base + 3 * scale, "positive": 0.7 * base + noise[0], "negative": 0.3 * base + noise[1]}


def thin(data: dict[str, torch.Tensor], keep: float) -> dict[str, torch.Tensor]:
    moments = CrossMoments(("positive", "negative"))
    moments.add(data["base"], data)
    found = moments.spectra("demonstrations")
    return {side: spectrum.leading(spectrum.kept(keep)) for side, spectrum in found.items()}


def dense(data: dict[str, torch.Tensor], side: str) -> torch.Tensor:
    """As the law is written: form Ω (d, d), take its full SVD."""
    h, other = (data[name] - data[name].mean(0) for name in ("base", side))
    u, _, _ = torch.linalg.svd(h.T @ other / len(h))
    return u


def fit_ratio(d: int, n: int, keep: float, dense_seconds: float | None) -> dict[str, Any]:
    """One side is measured densely and counted twice: both sides cost the same."""
    data = activations(n, d)
    ours, bases = seconds(lambda: thin(data, keep))
    row: dict[str, Any] = {"d": d, "n": n, "thin_s": ours, "k": bases["positive"].shape[1]}
    if dense_seconds is None:
        theirs, u = seconds(lambda: dense(data, "positive"))
        a = bases["positive"]
        # ‖P − P'‖_F² = 2k − 2‖AᵀU_k‖_F² loses half the digits; the part of A outside span(U_k) does not.
        row["projector_error"] = float((a - u[:, : a.shape[1]] @ (u[:, : a.shape[1]].T @ a)).norm())
        dense_seconds = 2 * theirs
    row |= {"dense_s": dense_seconds, "ratio": dense_seconds / ours}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, default=4096)
    parser.add_argument("--n", type=int, nargs="*", default=[200, 2000])
    parser.add_argument("--keep", type=float, default=0.99)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dense_seconds: float | None = None
    for n in sorted(given.n, reverse=True):
        row = fit_ratio(given.d, n, given.keep, dense_seconds)
        dense_seconds = row["dense_s"]
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
