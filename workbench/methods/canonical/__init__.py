"""Canonical examples trained through the network: LoRA and full finetuning, arXiv 2402.06155."""

from workbench.methods.canonical import finetuning as finetuning
from workbench.methods.canonical import lora as lora
