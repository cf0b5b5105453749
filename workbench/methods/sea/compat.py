"""What the released code of SEA does otherwise, defects included (docs/methods/sea.md §5): the record that official-compat folds in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.knobs import knob
from workbench.numerics.feature_maps import SquaredExponentialInverse
from workbench.numerics.spectral_law import PhiMode


@dataclass(frozen=True)
class SeaCompat:
    """Switches between our SEA and the released code's; the defaults are ours."""

    norm: Literal["feature"] | None = knob(
        None,
        label="Norm over the tokens",
        help="feature: restore each feature's norm over all tokens of a call, in place of each token's length; early tokens then see later "
        "ones, and a cached forward gives another result than a full one.",
    )
    phi_mode: PhiMode = knob(
        "intended", label="Feature map when editing", help="skip_input: projected in feature space without being mapped into it first."
    )
    se_inverse: SquaredExponentialInverse = knob(
        "sqrt", label="Inverse of the squared exponential", help="squared: without its square root, so that x comes back as its square."
    )
    restore_sign: bool = knob(
        True, label="Restore the sign", help="The squared exponential loses signs; give each branch those of the activation, or leave it."
    )
    final_period: Literal["force_negative"] | None = knob(
        None, label="Full stop of bad answers", help="force_negative: bad answers get a full stop, good ones keep theirs (HaluEval)."
    )
    last_layer_fit: Literal["resid_post", "ln_final"] = knob(
        "resid_post", label="Last layer is read", help="Where it is edited, or behind the network's final norm (ln_final)."
    )


OFFICIAL = SeaCompat(
    norm="feature",
    phi_mode="skip_input",
    se_inverse="squared",
    restore_sign=False,
    final_period="force_negative",
    last_layer_fit="ln_final",
)
