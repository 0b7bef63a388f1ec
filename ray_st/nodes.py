"""Which nodes of a cluster something may run on: KEY=VALUE labels, as `ray start --labels` gives.

In: `nodes:` of a recipe's section. Out: Ray's label selector. Next: `ray_compat.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ray_st.config import UserError, require

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*=[A-Za-z0-9][A-Za-z0-9_.-]*")


def require_labels(nodes: Sequence[str], field: str) -> None:
    """Refuse what is no label, and two values of one key; `field` is the dotted name."""
    for each in nodes:
        require(_LABEL.fullmatch(each) is not None, field, "KEY=VALUE each", each)
    keys = [each.partition("=")[0] for each in nodes]
    require(len({*keys}) == len(keys), field, "one value a key", tuple(nodes))


def selector(nodes: Sequence[str]) -> dict[str, str]:
    """What Ray takes as `label_selector`; nothing selects every node."""
    return dict(each.split("=", 1) for each in nodes)


def require_some(nodes: Sequence[str], field: str, found: Sequence[Mapping[str, str]]) -> None:
    """Refuse labels that no node has: what asks for them would wait for ever.

    `found`: the labels of each node.
    """
    wanted = selector(nodes).items()
    if wanted and not any(wanted <= {**labels}.items() for labels in found):
        theirs = {f"{key}={value}" for labels in found for key, value in labels.items()}
        own = sorted(label for label in theirs if not label.startswith("ray.io/"))
        raise UserError(
            f"{field}: no node of the cluster has {' '.join(nodes)} (there is "
            f"{' '.join(own) or 'no label of its own'}); start one with `ray start --labels "
            f"{','.join(nodes)}`, or leave {field} out"
        )
