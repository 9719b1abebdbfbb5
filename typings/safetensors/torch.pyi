from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

def load_file(filename: str | Path, device: str | int = "cpu") -> dict[str, Tensor]: ...
def save_file(
    tensors: Mapping[str, Tensor], filename: str | Path, metadata: dict[str, str] | None = None
) -> None: ...
