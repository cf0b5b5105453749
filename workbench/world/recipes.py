"""The recipes of the two shipped models: their shapes, and what they read from which step to which."""

from __future__ import annotations

from typing import Any

# The phases are a record, not a plan: copying and the speakers' switch did not click where they were diluted, so each
# was given a dense stretch when it was seen to lag. The steps are odd because a run was stopped there and went on.
GPT_PHASES = (
    "circuits:700", "knowledge:1025", "both:1251", "copying:1601", "both:1619", "copying:2000", "both:2600",
    "everything:2863", "finish:3506", "speaking:3922", "answering:4122", "finish:4650", "doubting:5050", "settling",
)  # fmt: skip
BACKPACK_PHASES = (
    "circuits:585", "copying:738", "everything:1647", "answering:1797", "finish:2300",
    "copying:3000", "both:3700", "speaking:4100", "answering:4300", "finish:5700",
    "repeating:6350", "settling",
)  # fmt: skip

SHIPPED: dict[str, dict[str, Any]] = {
    "gpt": {
        "steps": 5500, "decay_share": 0.6, "earlier": "3700:0.22@3506,4650:0.4@4650", "n_layer": 6, "lr": 1.5e-3,
        "phases": ",".join(GPT_PHASES),
    },
    "backpack": {
        "steps": 6900, "decay_share": 0.42, "earlier": "2300:0.2@2300,5700:0.35@5700", "d_model": 144, "n_layer": 4, "n_head": 4,
        "lr": 2e-3,
        "phases": ",".join(BACKPACK_PHASES),
    },
}  # fmt: skip
