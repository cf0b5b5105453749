"""Dimension names of the project, and the tensor types that annotations use.

`batch pos layer head d_model d_head d_mlp d_vocab` are TransformerLens's words; `sense` is a Backpack's; `row` counts demonstrations or
gathered activations; `width` is whatever width the site at hand has.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

TokenIds = Int[Tensor, "batch pos"]
Logits = Float[Tensor, "batch pos d_vocab"]
Activations = Float[Tensor, "batch pos width"]
Rows2d = Float[Tensor, "row width"]

__all__ = ["Activations", "Bool", "Float", "Int", "Logits", "Rows2d", "Tensor", "TokenIds"]
