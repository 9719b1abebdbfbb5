"""WeightSpace: the matrix Theta (n, P) of experts, and theta(alpha) = alpha^T Theta (Eq. 1)."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dfwe.errors import UserError
from dfwe.weights.layout import Layout, flat

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

BLOCK = 1 << 20  # elements mixed at a time: the running sum stays in the cache
CONFIGURATION = ("*.json", "*.model", "*.txt", "*.jinja")
NOT_OURS = ("recipe.json", "scores.json", "model.safetensors.index.json")


class WeightSpace:
    """n experts of one architecture, as rows of Theta (n, P).

    Rows of checkpoints are memory-mapped: a search holds one model in memory, not n.

    Args:
        rows: n flat float32 tensors (P,).
        layout: where each parameter lies in a row.
        labels: the experts' names.
        folder: whose configuration and tokenizer an export copies.
    """

    def __init__(
        self,
        rows: Sequence["Tensor"],
        layout: Layout,
        labels: Sequence[str],
        folder: Path | None = None,
    ) -> None:
        assert len(rows) == len(labels)
        self.rows = list(rows)
        self.layout = layout
        self.labels = tuple(labels)
        self.folder = folder

    @classmethod
    def from_pretrained(
        cls,
        folders: Sequence[str | Path],
        labels: Sequence[str] | None = None,
        cache: Path | None = None,
    ) -> "WeightSpace":
        """The space of checkpoints that `save_pretrained` wrote.

        Args:
            folders: one a checkpoint.
            labels: their names; the folders' by default.
            cache: where a flat float32 copy is kept of a checkpoint that cannot be mapped as it
                is (half precision, several files); a temporary folder by default.

        Raises:
            UserError: the checkpoints do not fit together, or one cannot be read.
        """
        from dfwe.weights.checkpoints import open_rows

        paths = [Path(folder).expanduser() for folder in folders]
        if not paths:
            raise UserError("A weight space needs at least one checkpoint.")
        rows, layout = open_rows(paths, cache)
        return cls(rows, layout, labels or [path.name for path in paths], paths[0])

    @classmethod
    def from_modules(
        cls, modules: Sequence["Module"], labels: Sequence[str] | None = None
    ) -> "WeightSpace":
        """The space of any modules of one architecture; their parameters are copied."""
        import torch

        layouts = [Layout.of(module) for module in modules]
        for number, layout in enumerate(layouts):
            if layout != layouts[0]:
                raise UserError(f"Module {number} has other parameters than module 0; a weight "
                                "space needs one architecture.")  # fmt: skip
        rows = []
        for module in modules:
            named = dict(module.named_parameters())
            flats = [named[name].detach().float().cpu().flatten() for name in layouts[0].names]
            rows.append(torch.cat(flats))
        return cls(rows, layouts[0], labels or [str(number) for number in range(len(rows))])

    @property
    def n(self) -> int:
        """The number of experts."""
        return len(self.rows)

    def at(self, alpha: ArrayLike, out: "Tensor | None" = None) -> "Tensor":
        """theta(alpha) = sum_i alpha_i theta_i, (P,).   Eq. 1

        alpha (n,) need not lie on the simplex (a negative entry extrapolates) and is never
        normalised. alpha = e_i gives expert i bit for bit. `out` is written in place if given.

        Raises:
            UserError: alpha has another length, or an entry that is not finite.
        """
        import torch

        weights = self._checked(alpha)
        active = [(float(a), row) for a, row in zip(weights, self.rows, strict=True) if a != 0]
        size = self.layout.size
        theta = torch.empty(size) if out is None else out  # (P,)
        if not active:
            return theta.zero_()
        with torch.no_grad():
            for start in range(0, size, BLOCK):
                block = theta[start : start + BLOCK]
                (first, row), *others = active
                if first == 1.0:
                    block.copy_(row[start : start + BLOCK])
                else:
                    torch.mul(row[start : start + BLOCK], first, out=block)
                for weight, other in others:
                    block.add_(other[start : start + BLOCK], alpha=weight)
        return theta

    def write(self, alpha: ArrayLike, module: "Module") -> None:
        """Put theta(alpha) into the module's parameters, in place.

        A flattened module (`layout.flatten`) takes it straight into its buffer.
        """
        theta = flat(module, self.layout)
        if theta is not None:
            self.at(alpha, out=self._near(theta))
            return
        parameters = dict(module.named_parameters())
        if set(parameters) != set(self.layout.names):
            raise UserError("The module has other parameters than the weight space; build it from "
                            "the same configuration.")  # fmt: skip
        theta = self.at(alpha)
        for name, start, stop, shape in self.layout.spans():
            parameters[name].data.copy_(theta[start:stop].view(shape))

    def export(self, alpha: ArrayLike, folder: str | Path) -> Path:
        """Write theta(alpha) as a folder that `AutoModel.from_pretrained` loads.

        Configuration and tokenizer are the first expert's. Written aside, then renamed.

        Raises:
            UserError: the folder exists, or the space was not made from checkpoints.
        """
        from safetensors.torch import save_file

        target = Path(folder).expanduser()
        if target.exists():
            raise UserError(f"{target} exists already; name a new folder for the export.")
        if self.folder is None:
            raise UserError("This space was made from modules; only one from checkpoints knows "
                            "the configuration an export needs.")  # fmt: skip
        theta = self.at(alpha)
        aside = target.with_name(target.name + ".part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for path in (path for kind in CONFIGURATION for path in self.folder.glob(kind)):
            if path.name not in NOT_OURS:
                shutil.copy(path, aside / path.name)
        tensors = {name: theta[i:j].view(shape) for name, i, j, shape in self.layout.spans()}
        save_file(tensors, aside / "model.safetensors", metadata={"format": "pt"})
        aside.rename(target)
        return target

    def _checked(self, alpha: ArrayLike) -> np.ndarray[Any, Any]:
        weights = np.asarray(alpha, dtype=np.float64)
        if weights.shape != (self.n,):
            raise UserError(f"alpha has the shape {weights.shape}; {self.n} experts need "
                            f"({self.n},).")  # fmt: skip
        if not np.isfinite(weights).all():
            raise UserError(f"alpha has an entry that is not finite: {weights.tolist()}.")
        return weights

    def _near(self, theta: "Tensor") -> "Tensor":
        """Bring the rows to the module's device once; on a CPU they stay mapped."""
        if self.rows[0].device != theta.device:
            self.rows = [row.to(theta.device) for row in self.rows]
        return theta
