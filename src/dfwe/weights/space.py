"""WeightSpace: the matrix Theta (n, P) of experts, and theta(alpha) = alpha^T Theta (Eq. 1)."""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import JsonValue

from dfwe.errors import UserError, reason
from dfwe.weights.layout import Layout, flat

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module


log = logging.getLogger(__name__)
BLOCK = 1 << 20  # elements mixed at a time: the running sum stays in the cache
BLOCK_ON_DEVICE = 1 << 22  # fewer launches; still within a GPU's cache


class WeightSpace:
    """n experts of one architecture, as rows of Theta (n, P).

    Rows of checkpoints are memory-mapped: a search holds one model in memory, not n. Parameters
    are mixed, and so are floating-point buffers in a checkpoint's file, where they look the same;
    integer buffers are the first expert's.

    Args:
        rows: n flat float32 tensors (P,).
        layout: where each parameter lies in a row.
        labels: the experts' names.
        constants: by name, the tensors that are not mixed.
        beside: name -> file, of configuration and tokenizer, which an export copies.
        settings: what an export's `config.json` says otherwise.
        names: of the experts as they were given, for an export's card; the labels by default.
    """

    def __init__(
        self,
        rows: Sequence["Tensor"],
        layout: Layout,
        labels: Sequence[str],
        constants: Mapping[str, "Tensor"] | None = None,
        beside: Mapping[str, Path] | None = None,
        settings: Mapping[str, JsonValue] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        if len(rows) != len(labels):
            raise UserError(f"{len(labels)} labels for {len(rows)} experts; give one for each.")
        self.rows = tuple(rows)
        self.layout = layout
        self.labels = tuple(labels)
        self.constants = dict(constants or {})
        self.beside = dict(beside or {})
        self.settings = dict(settings or {})
        self.names = tuple(labels if names is None else names)
        self.groups: tuple[str, ...] = ("all",)
        self._group = np.zeros(len(layout.names), dtype=int)  # of each tensor
        self._resident: dict[torch.device, tuple[Tensor, ...]] = {}

    def __repr__(self) -> str:
        groups = f", {len(self.groups)} groups" if len(self.groups) > 1 else ""
        return (
            f"WeightSpace({self.n} experts: {', '.join(self.labels)}; {self.size:,} parameters"
            f"{groups})"
        )

    @classmethod
    def from_pretrained(
        cls,
        folders: str | Path | Iterable[str | Path],
        labels: Sequence[str] | None = None,
        cache: Path | None = None,
    ) -> "WeightSpace":
        """The space of checkpoints, read as transformers reads them, after a preflight.

        Args:
            folders: one per checkpoint, that `save_pretrained` wrote; or a Hub id, an adapter's
                folder, or `package:NAME/FOLDER`.
            labels: their names; the folders' by default.
            cache: where a flat float32 copy is kept of a checkpoint that cannot be mapped as it
                is (half precision, several files); a temporary folder by default.

        Raises:
            UserError: the checkpoints do not fit together, or one cannot be read.
        """
        from dfwe.weights.preflight import preflight

        folders = [folders] if isinstance(folders, str | Path) else list(folders)
        report = preflight(folders, cache)
        if report.problems:
            raise UserError(report.problems[0])
        for sentence in report.warnings:
            log.warning(sentence)
        first, rows = report.checkpoints[0], [one.row.theta for one in report.checkpoints]
        names = [str(folder) for folder in folders]
        if labels is None:
            short = [Path(name).name for name in names]
            labels = short if len(set(short)) == len(short) else names
        layout, constants = first.row.layout, first.row.constants
        beside, settings = first.checkpoint.beside, first.settings
        return cls(rows, layout, labels, constants, beside, settings, names)

    @classmethod
    def from_results(
        cls, folders: Sequence[Path], labels: Sequence[str], cache: Path | None = None
    ) -> "WeightSpace":
        """The space of results of dfwe's own steps, which are canonical: nothing is loaded.

        Args:
            folders: the results' folders.
            labels: their names.
            cache: where a flat copy is kept of a result that cannot be mapped as it is.

        Raises:
            UserError: they are not of one architecture.
        """
        from dfwe.weights.checkpoint import beside
        from dfwe.weights.rows import stored_row

        rows = [stored_row(folder, cache) for folder in folders]
        for folder, row in zip(folders, rows, strict=True):
            if row.layout != rows[0].layout:
                raise UserError(f"{folder} and {folders[0]} are not of one architecture and size.")
        thetas, first = [row.theta for row in rows], rows[0]
        return cls(thetas, first.layout, labels, first.constants, beside(folders[0]))

    @classmethod
    def from_modules(
        cls, modules: Sequence["Module"], labels: Sequence[str] | None = None
    ) -> "WeightSpace":
        """The space of any modules of one architecture; their parameters are copied.

        Raises:
            UserError: their parameters differ in name or shape, or their floating-point buffers
                (running statistics) in value: buffers are not mixed, all are the first module's.
        """
        # Whoever calls this may use no type checker: a list or tuple, which modules are not.
        if not hasattr(modules, "index") or not modules:
            raise UserError("A weight space needs a list of at least one module.")
        layout, constants = Layout.of(modules[0]), buffers_of(modules[0])
        for number, module in enumerate(modules):
            if Layout.of(module) != layout:
                raise UserError(
                    f"Module {number} has other parameters than module 0; a weight "
                    "space needs one architecture."
                )
            for name, tensor in buffers_of(module).items():
                same = name in constants and tensor.equal(constants[name])
                if tensor.is_floating_point() and not same:
                    raise UserError(
                        f"The buffer '{name}' of module {number} differs from module 0's, and "
                        "buffers are not mixed; copy one module's buffers into the others, and "
                        "estimate them anew after mixing."
                    )
        rows = [row_of(module, layout) for module in modules]
        return cls(
            rows,
            layout,
            labels or [str(number) for number in range(len(rows))],
            constants=constants,
        )

    def with_rows(self, rows: Sequence["Tensor"], labels: Sequence[str]) -> "WeightSpace":
        """Other thetas (P,) of the same architecture, such as a merge's, to mix or to export."""
        other = WeightSpace(rows, self.layout, labels, self.constants, self.beside, self.settings)
        other.groups, other._group = self.groups, self._group
        return other

    def grouped(self, group_of: Callable[[str], str]) -> "WeightSpace":
        """The same space with separate weights for each group of parameters: alpha is (g, n).

        Args:
            group_of: from a parameter's name to its group's (`dfwe.weights.groups`).
        """
        names = [group_of(name) for name in self.layout.names]
        other = copy.copy(self)
        other.groups = tuple(dict.fromkeys(names))
        other._group = np.array([other.groups.index(name) for name in names])
        return other

    @property
    def n(self) -> int:
        """The number of experts."""
        return len(self.rows)

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return self.layout.size

    def at(self, alpha: ArrayLike, out: "Tensor | None" = None) -> "Tensor":
        """theta(alpha) = sum_i alpha_i theta_i, (P,).   Eq. 1

        alpha (n,) need not lie on the simplex (a negative entry extrapolates) and is never
        normalised; with groups it is (g, n), or (n,) for all of them. alpha = e_i gives expert i
        bit for bit. `out` (P,), float32, is written in place if given.

        Raises:
            UserError: alpha has another shape, or an entry that is not finite; or `out` has
                another shape or type.
        """
        import torch

        weights = self._checked(alpha)  # (g, n)
        if out is not None and (out.shape != (self.size,) or out.dtype != torch.float32):
            raise UserError(
                f"out has the shape {tuple(out.shape)} and type {out.dtype}; theta needs "
                f"({self.size},) and float32."
            )
        theta = torch.empty(self.size) if out is None else out  # (P,)
        rows = self._rows_on(theta.device)
        for start, stop, group in self._runs():
            _mix(weights[group], [row[start:stop] for row in rows], theta[start:stop])
        return theta

    def write(self, alpha: ArrayLike, module: "Module") -> None:
        """Put theta(alpha) into the module's parameters, in place, on whatever device they are.

        Raises:
            UserError: the module has other parameters, or ties some that differ here.
        """
        import torch

        theta = flat(module, self.layout)
        if theta is not None:  # one run over the whole buffer
            self.at(alpha, out=theta)
        else:
            weights = self._checked(alpha)
            targets = places(module, self)
            rows = self._rows_on(next(iter(targets.values())).device)
            for (name, start, stop, _), group in zip(
                self.layout.spans(), self._group, strict=True
            ):
                target = targets[name]
                plain = target.dtype == torch.float32 and target.is_contiguous()
                part = target.view(-1) if plain else target.new_empty(stop - start).float()
                _mix(weights[group], [row[start:stop] for row in rows], part)
                if not plain:
                    target.copy_(part.view(target.shape))
        write_constants(self.constants, module)

    def named(self, alpha: ArrayLike) -> dict[str, float] | dict[str, dict[str, float]]:
        """Expert -> its weight; with groups, group -> expert -> weight.

        Raises:
            UserError: alpha has another shape, or an entry that is not finite.
        """
        weights = self._checked(alpha).tolist()
        rows = [dict(zip(self.labels, row, strict=True)) for row in weights]
        return rows[0] if len(rows) == 1 else dict(zip(self.groups, rows, strict=True))

    def export(
        self,
        alpha: ArrayLike,
        folder: str | Path,
        *,
        scores: Mapping[str, float] | None = None,
        card: bool = True,
        overwrite: bool = False,
    ) -> Path:
        """Write theta(alpha) as a folder that `AutoModel.from_pretrained` loads, with its card.

        Configuration and tokenizer are the first expert's; a space of modules has none, and its
        folder holds `model.safetensors` and the card. Written aside, then renamed; the mixture is
        never in memory as a whole.

        Args:
            alpha: (n,), or (g, n) with groups.
            folder: a new one.
            scores: of the mixture by name, for the card: `{"dev accuracy": best.score}`.
            card: whether to write a model card, `README.md`.
            overwrite: whether a model that is in the folder is replaced.

        Raises:
            UserError: the folder exists, and is not to be overwritten or has no model.
        """
        from dfwe.weights.export import write_folder

        weights = self._checked(alpha)
        target = Path(folder).expanduser()
        write_folder(
            target,
            self.layout,
            self._blocks(weights),
            self.constants,
            beside=self.beside,
            settings=self.settings,
            card=self._card(weights, scores or {}) if card else None,
            overwrite=overwrite,
        )
        return target

    def _card(self, weights: NDArray[np.float64], scores: Mapping[str, float]) -> str:
        from dfwe.weights.checkpoint import CONFIG
        from dfwe.weights.mixture_card import mixture_card

        experts = list(zip(self.labels, self.names, strict=True))
        folder = self.beside[CONFIG].parent if CONFIG in self.beside else None
        return mixture_card(experts, weights, self.groups, folder, scores)

    def _blocks(self, weights: NDArray[np.float64]) -> Iterator["Tensor"]:
        import torch

        for first, last, group in self._runs():
            for start in range(first, last, BLOCK):
                stop = min(start + BLOCK, last)
                part = torch.empty(stop - start)
                _mix(weights[group], [row[start:stop] for row in self.rows], part)
                yield part

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        """(first element, one past the last, group) of consecutive parameters of one group."""
        begin, end, group = 0, 0, self._group[0]
        for (_, start, stop, _), other in zip(self.layout.spans(), self._group, strict=True):
            if other != group:
                yield begin, start, int(group)
                begin, group = start, other
            end = stop
        yield begin, end, int(group)

    def _checked(self, alpha: ArrayLike) -> NDArray[np.float64]:
        """alpha as (g, n)."""
        try:
            weights = np.asarray(alpha, dtype=np.float64)
        except (TypeError, ValueError, RuntimeError) as error:  # a tensor with a gradient
            raise UserError(
                f"alpha is not an array of numbers: {alpha!r} ({reason(error)})."
            ) from None
        shape = (len(self.groups), self.n)
        if weights.shape not in ((self.n,), shape):
            wanted = f"({self.n},)" + (f" or {shape}" if len(self.groups) > 1 else "")
            raise UserError(
                f"alpha has the shape {weights.shape}; {self.n} experts need {wanted}."
            )
        if not np.isfinite(weights).all():
            raise UserError(f"alpha has an entry that is not finite: {weights.tolist()}.")
        return np.broadcast_to(weights, shape)

    def _rows_on(self, device: "torch.device") -> "tuple[Tensor, ...]":
        """The rows, kept on a GPU if they fit beside what is there; else they are streamed."""
        import torch

        if device.type != "cuda":
            return self.rows
        if device not in self._resident:
            free, _ = torch.cuda.mem_get_info(device)
            fits = 4 * self.size * self.n < 0.7 * free  # the rest is for activations
            rows = tuple(row.to(device) for row in self.rows) if fits else self.rows
            self._resident = {device: rows}
        return self._resident[device]


def _mix(weights: NDArray[np.float64], rows: Sequence["Tensor"], out: "Tensor") -> None:
    """out = sum_i weights_i rows_i in float32, a block at a time.   Eq. 1"""
    import torch

    active = [(float(a), row) for a, row in zip(weights, rows, strict=True) if a != 0]
    block = BLOCK if out.device.type == "cpu" else BLOCK_ON_DEVICE
    with torch.no_grad():
        if not active:
            out.zero_()
            return
        scales = [scale for scale, _ in active]
        blocks = (torch.split(row, block) for _, row in active)
        for part, *pieces in zip(torch.split(out, block), *blocks, strict=True):
            first, *others = (piece.to(out.device) for piece in pieces)
            if scales[0] == 1.0:
                part.copy_(first)
            else:
                torch.mul(first, scales[0], out=part)
            for scale, other in zip(scales[1:], others, strict=True):
                part.add_(other, alpha=scale)


def row_of(module: "Module", layout: Layout) -> "Tensor":
    """A copy of the module's parameters as theta (P,), float32, on the CPU."""
    import torch

    named = dict(module.named_parameters())
    return torch.cat([named[name].detach().float().cpu().flatten() for name in layout.names])


def buffers_of(module: "Module") -> dict[str, "Tensor"]:
    """Copies of the buffers that the module saves."""
    names = dict(module.named_parameters(remove_duplicate=False))
    state = module.state_dict()
    buffers = {name: tensor for name, tensor in state.items() if name not in names}
    return {name: buffer.detach().cpu().clone() for name, buffer in buffers.items()}


def write_constants(constants: Mapping[str, "Tensor"], module: "Module") -> None:
    """Copy the tensors that are not mixed into the module's buffers of their names."""
    if constants:
        buffers = dict(module.named_buffers(remove_duplicate=False))
        for name in constants.keys() & buffers.keys():
            buffers[name].copy_(constants[name])


def places(module: "Module", space: "WeightSpace") -> dict[str, "Tensor"]:
    """name -> the module's tensor, of all in the space's layout.

    Raises:
        UserError: names or shapes differ, or the module ties two tensors that differ in the
            space (transformers ties the head of a T5 that is built from a configuration).
    """
    named = {name: p.data for name, p in module.named_parameters(remove_duplicate=False)}
    named |= dict(module.named_buffers(remove_duplicate=False))
    taken: dict[int, tuple[str, slice]] = {}
    for name, start, stop, shape in space.layout.spans():
        if name not in named or tuple(named[name].shape) != shape:
            what = f"of shape {tuple(named[name].shape)}" if name in named else "missing"
            raise UserError(
                f"The module's '{name}' is {what}, the experts' has shape {shape}; "
                "load the module from one of the experts."
            )
        place = named[name].data_ptr()
        first, span = taken.setdefault(place, (name, slice(start, stop)))
        if first != name and any(not row[span].equal(row[start:stop]) for row in space.rows):
            raise UserError(
                f"The module ties '{name}' to '{first}', but they differ in the "
                "experts; load the module with from_pretrained."
            )
    for name, parameter in module.named_parameters():
        if parameter.data_ptr() not in taken:
            raise UserError(
                f"The experts lack the module's parameter '{name}'; load the module "
                "from one of the experts."
            )
    return {name: named[name] for name in space.layout.names}
