"""A model as a person asks for it: which one, in numbers of which type, where; and the key by which tabs and the process call it."""

from __future__ import annotations

from dataclasses import dataclass

DTYPE, DEVICE = "float32", "cpu"


@dataclass(frozen=True)
class AskedModel:
    """A model to load: a name, folder, file or hub id; the number type; the device."""

    name: str
    dtype: str = DTYPE
    device: str = DEVICE

    @property
    def key(self) -> str:
        """The name alone where the rest is as usual: what a URL holds."""
        usual = (self.dtype, self.device) == (DTYPE, DEVICE) and "@" not in self.name
        return self.name if usual else f"{self.name}@{self.dtype}@{self.device}"

    @staticmethod
    def of(key: str) -> AskedModel:
        """What a key stands for."""
        name, *rest = key.rsplit("@", 2)
        return AskedModel(name, *rest) if len(rest) == 2 else AskedModel(key)

    @property
    def options(self) -> dict[str, str]:
        """What `open_session` is told beside the name."""
        return {} if (self.dtype, self.device) == (DTYPE, DEVICE) else {"dtype": self.dtype, "device": self.device}


def shown(key: str) -> str:
    """A model's key as people read it."""
    asked = AskedModel.of(key)
    return asked.name if not asked.options else f"{asked.name} in {asked.dtype} on {asked.device}"
