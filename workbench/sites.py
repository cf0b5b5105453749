"""Addresses in a network, with a string form: `resid_post@5`, `head_z@3.7`, `mlp_out@2`, `w_out@4`, `param:transformer.wpe.weight`.

Activation sites are places where a forward can be read and written; weight sites are matrices to which a delta can be added. Layers,
heads, senses and experts count from 0. `head_z@3` is all heads of layer 3 side by side, `head_z@3.7` one of them; `expert_out@3.7` is what
expert 7 of layer 3 adds to the stream at the tokens that go to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from workbench.errors import BadSite

# Kinds in the order in which a sequential block meets them.
LAYER_ACTIVATIONS = ("resid_pre", "head_z", "attn_out", "mlp_post", "mlp_out", "resid_post")
EXPERT = "expert_out"
GLOBAL_ACTIVATIONS = ("ln_final", "sense")
LAYER_WEIGHTS = ("w_q", "w_k", "w_v", "w_o", "w_gate", "w_in", "w_out")
GLOBAL_WEIGHTS = ("w_e", "w_pos", "w_u", "sense_table")

_FORM = re.compile(r"^(?P<kind>[a-z_]+)(?:@(?P<layer>\d+)(?:\.(?P<head>\d+))?)?$")


@dataclass(frozen=True, order=True)
class Site:
    """One address: a `kind`, and for most kinds a `layer` (for `sense` the sense index) and perhaps a `head` (for
    `expert_out` the expert).

    `name` is set for `param` sites only: the full name of a raw parameter.
    """

    kind: str
    layer: int | None = None
    head: int | None = None
    name: str | None = None

    @staticmethod
    def parse(text: str) -> Site:
        """Read an address from its string form.

        Raises:
            BadSite: the text is not an address.
        """
        if text.startswith("param:") and len(text) > len("param:"):
            return Site("param", name=text.removeprefix("param:"))
        match = _FORM.match(text.strip())
        kinds = (*LAYER_ACTIVATIONS, EXPERT, *GLOBAL_ACTIVATIONS, *LAYER_WEIGHTS, *GLOBAL_WEIGHTS)
        if match is None or match["kind"] not in kinds:
            raise BadSite(
                f"{text!r} is not an address of a site.",
                f"Write kind@layer or head_z@layer.head, for example resid_post@5; kinds: {', '.join(kinds)}.",
            )
        kind, layer, head = match["kind"], match["layer"], match["head"]
        if kind in (*LAYER_ACTIVATIONS, EXPERT, *LAYER_WEIGHTS) and layer is None:
            raise BadSite(f"{text!r} names no layer.", f"Add one, for example {kind}@0.")
        if head is not None and kind not in ("head_z", EXPERT):
            raise BadSite(f"{text!r} names a head, and only head_z has heads.", f"Write {kind}@{layer}.")
        if head is None and kind == EXPERT:
            raise BadSite(f"{text!r} names no expert.", f"Add one, for example {EXPERT}@{layer}.0.")
        if layer is not None and kind in ("ln_final", *GLOBAL_WEIGHTS):
            raise BadSite(f"{text!r} names a layer, and there is one {kind} in a model.", f"Write {kind}.")
        return Site(kind, None if layer is None else int(layer), None if head is None else int(head))

    def __str__(self) -> str:
        if self.name is not None:
            return f"param:{self.name}"
        place = "" if self.layer is None else f"@{self.layer}"
        return f"{self.kind}{place}" + ("" if self.head is None else f".{self.head}")

    @property
    def is_weight(self) -> bool:
        """Whether a delta can be added here (else an activation can be transformed)."""
        return self.kind == "param" or self.kind in (*LAYER_WEIGHTS, *GLOBAL_WEIGHTS)


def in_order(sites: Iterable[Site]) -> tuple[Site, ...]:
    """Sites as a forward meets them: layer by layer, activations before weights, what belongs to no layer last."""
    kinds = (*LAYER_ACTIVATIONS[:-1], EXPERT, LAYER_ACTIVATIONS[-1], *LAYER_WEIGHTS, *GLOBAL_ACTIVATIONS, *GLOBAL_WEIGHTS)
    return tuple(sorted(sites, key=lambda item: (item.layer is None, item.layer or 0, kinds.index(item.kind), item.head or 0)))


def site(address: Site | str) -> Site:
    """Return the address itself, or read it from its string form."""
    return address if isinstance(address, Site) else Site.parse(address)
