"""Which tensors fit a model, and an exact account of those that do not.

In: the tensors that a model wants and those that a file gives. Out: what fits, and `Loaded`.
Next: `initialise.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ray_st.config import UserError

_FEW = 20  # names of a kind in a line
# BatchNorm's: one with a momentum never reads it, so files from elsewhere may lack it, and a file
# that holds nothing else starts nothing. It is no part of the account.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The account of a start, for summary.json; counters of batches are left out of it."""

    start: str
    source: str  # a file, a folder, or timm's name of what the hub gave
    tensors: int
    left_over: int = 0  # of the same network, but not of this model: classifier, blocks not tapped
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    other_shape: tuple[str, ...] = ()

    @property
    def misfits(self) -> str:
        """What did not fit: counts and the first names; empty when all did."""
        kinds = {
            "missing": self.missing,
            "of another shape": self.other_shape,
            "unexpected": self.unexpected,
        }
        return ", ".join(f"{len(n)} {kind} ({_few(n)})" for kind, n in kinds.items() if n)

    def __str__(self) -> str:
        """One line for the console."""
        rest = f"; {self.misfits}" if self.misfits else ""
        return f"{self.start} from {self.source}, {self.tensors} tensors{rest}"


def fitted(
    start: str,
    source: str,
    wanted: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    spare: Collection[str],
) -> tuple[dict[str, Tensor], Loaded]:
    """What of `given` fits `wanted`, in its types (counters of batches too), and the account.

    `spare` names what may be left over without being unexpected.
    """
    fitting = {
        # A copy: safetensors refuses tensors that share their memory.
        name: given[name].to(want.dtype, copy=True).contiguous()
        for name, want in wanted.items()
        if name in given and given[name].shape == want.shape
    }
    counted = counted_names(wanted)
    extra = [name for name in counted_names(given) if name not in wanted]
    loaded = Loaded(
        start=start,
        source=source,
        tensors=len(counted_names(fitting)),
        left_over=sum(name in spare for name in extra),
        missing=tuple(name for name in counted if name not in given),
        unexpected=tuple(name for name in extra if name not in spare),
        other_shape=tuple(
            f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
            for name in counted
            if name in given and name not in fitting
        ),
    )
    return fitting, loaded


def require_fit(loaded: Loaded, backbone: str, *, partial: bool) -> None:
    """Refuse a start of which nothing fits, or, unless `partial`, not all."""
    move = "choose the model.backbone that it was made for"
    if not loaded.tensors:
        raise UserError(
            f"init.weights: {loaded.source} holds no tensor of {backbone}: {loaded.misfits}; {move}"
        )
    if loaded.misfits and not partial:
        raise UserError(
            f"init.weights: {loaded.source} does not fit {backbone}: {loaded.misfits}; {move}, "
            "or pass --init.partial to load the rest"
        )


def counted_names(names: Iterable[str]) -> list[str]:
    """Names of tensors that an account counts: all but BatchNorm's counters of batches."""
    return [name for name in names if not name.endswith(_COUNTER)]


def _few(names: Collection[str]) -> str:
    beyond = len(names) - _FEW
    return ", ".join([*names][:_FEW]) + (f" and {beyond} more" if beyond > 0 else "")
