"""Which nodes there are: those of a cluster launcher's file, or this machine; and their prices.

In: Ray's launcher YAML; a list of prices. Out: `Fleet`. Next: `scenario.py`.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray_st.config import UserError, require
from ray_st.recipe import read_yaml, scalar

_TYPES = "available_node_types"
_MOST_WORKERS = 2  # of a file that has no max_workers


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """Nodes of one kind."""

    name: str
    cores: int
    accelerators: int = 0
    least: int = 0  # that are up from the beginning
    most: int = 1
    is_spot: bool = False
    is_head: bool = False
    labels: tuple[str, ...] = ()  # KEY=VALUE each
    instance: str | None = None  # as its cloud calls it
    price_per_hour: float | None = None


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """All kinds of nodes that there are."""

    name: str
    types: tuple[NodeType, ...]
    most: int | None = None  # nodes of all kinds together, the head among them
    is_here: bool = False  # this machine, whose cores everything shares

    @property
    def workers(self) -> tuple[NodeType, ...]:
        """Kinds that have something to work with."""
        return tuple(kind for kind in self.types if kind.most and (kind.cores or kind.accelerators))

    @property
    def least(self) -> dict[str, int]:
        """How many nodes of each kind are up from the beginning."""
        return {kind.name: kind.least for kind in self.types}

    def most_of(self, kind: NodeType, nodes: Mapping[str, int]) -> int:
        """How many nodes of a kind there may be beside those that `nodes` has of the others."""
        if self.most is None:
            return kind.most
        others = sum(count for name, count in nodes.items() if name != kind.name)
        return min(kind.most, max(kind.least, self.most - others))

    def with_labels(self, labels: Sequence[str]) -> tuple[NodeType, ...]:
        """Those of `workers` that have all of these labels; this machine has any."""
        wanted = set(labels)
        return tuple(kind for kind in self.workers if self.is_here or wanted <= set(kind.labels))

    def named(self, labels: Sequence[str]) -> str:
        """Its name, and which of its nodes."""
        return " ".join([self.name, "with", *labels]) if labels else self.name

    def priced(self, prices: Mapping[str, float]) -> Fleet:
        """The same with a price for each kind that is named, or whose instance type is."""

        def price(kind: NodeType) -> float | None:
            return prices.get(kind.name, prices.get(kind.instance or ""))

        kinds = (replace(kind, price_per_hour=price(kind)) for kind in self.types)
        return replace(self, types=tuple(kinds))

    def cost_per_hour(self, nodes: Mapping[str, int]) -> float | None:
        """Of so many nodes of each kind; None where the price of one is not known."""
        by_name = {kind.name: kind.price_per_hour for kind in self.types}
        found = [(by_name[name], count) for name, count in nodes.items() if count]
        if any(price is None for price, _ in found):
            return None
        return sum((price or 0.0) * count for price, count in found)


def this_machine(gpus: int) -> Fleet:
    """One node: this one, with the accelerators that there are."""
    cores = os.cpu_count() or 1
    here = NodeType(name="this machine", cores=cores, accelerators=gpus, least=1, most=1)
    return Fleet(name="this machine", types=(here,), is_here=True)


def read_cluster(path: str) -> Fleet:
    """Read the node types of a launcher's file; raises `UserError`."""
    text = _launcher_file(path)
    types = text.get(_TYPES)
    if not isinstance(types, Mapping) or not types:
        rule = "a mapping of node types, as `ray up` reads it"
        raise UserError(f"{path}: {_TYPES}: must be {rule}, got {types!r}")
    head = text.get("head_node_type")
    names = ", ".join(map(str, types))
    require(head in types, f"{path}: head_node_type", f"one of {names}", head)
    bound = _count(f"{path}: max_workers", text.get("max_workers", _MOST_WORKERS))
    kinds = tuple(
        _node_type(path, str(name), value, bound, is_head=name == head)
        for name, value in types.items()
    )
    found = Fleet(name=path, types=kinds, most=bound + 1)
    least = sum(value.get("min_workers", 0) for value in types.values())
    rule = f"at least the sum of all min_workers, {least}, or Ray refuses the file"
    require(bound >= least, f"{path}: max_workers", rule, bound)
    if not found.workers:
        raise UserError(f"{path}: {_TYPES}: none has a core and may be started; raise max_workers")
    return found


def _launcher_file(path: str) -> dict[str, Any]:
    """Read it as Ray does, with anchors and merges, which no recipe has."""
    import yaml

    try:
        text = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path}: is not valid YAML: {said}") from error
    require(isinstance(text, dict), path, "a mapping, as `ray up` reads it", text)
    return dict(text)


def _node_type(path: str, name: str, value: Any, bound: int, *, is_head: bool) -> NodeType:
    """Read one as Ray does; `bound`: workers of all types together."""
    where = f"{path}: {_TYPES}.{name}"
    require(isinstance(value, Mapping), where, "a mapping", value)
    resources, config = value.get("resources"), value.get("node_config")
    rule = "a mapping that names CPU, for nobody asks the cloud here"
    named = isinstance(resources, Mapping) and "CPU" in resources
    require(named, f"{where}.resources", rule, resources, "write CPU: 0 where nothing may run")
    require(isinstance(config, Mapping), f"{where}.node_config", "a mapping", config)
    least = _count(f"{where}.min_workers", value.get("min_workers", 0))
    unsaid = 0 if is_head else bound
    most = min(bound, _count(f"{where}.max_workers", value.get("max_workers", unsaid)))
    labels = value.get("labels") or {}
    require(isinstance(labels, Mapping), f"{where}.labels", "a mapping", labels)
    instance = config.get("InstanceType", config.get("machineType"))
    return NodeType(
        name=name,
        cores=_count(f"{where}.resources.CPU", resources["CPU"]),
        accelerators=_count(f"{where}.resources.GPU", resources.get("GPU", 0)),
        least=min(least, most) + is_head,  # the head is one more than its workers
        most=most + is_head,
        is_spot=_is_spot(config),
        is_head=is_head,
        labels=tuple(f"{key}={label}" for key, label in labels.items()),
        instance=None if instance is None else str(instance),
    )


def _count(where: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise UserError(f"{where}: must be a whole number, 0 or more, got {value!r}")
    return value


def _is_spot(config: Mapping[str, Any]) -> bool:
    """Whether AWS or Google may take such a node away."""
    market = config.get("InstanceMarketOptions")
    if isinstance(market, Mapping) and market.get("MarketType") == "spot":
        return True
    scheduling = config.get("scheduling")  # a mapping; in Ray's own examples a list of them
    for each in scheduling if isinstance(scheduling, list) else [scheduling]:
        if isinstance(each, Mapping) and (
            each.get("preemptible") is True or each.get("provisioningModel") == "SPOT"
        ):
            return True
    return False


def read_prices(path: str) -> dict[str, float]:
    """Dollars an hour by node type or instance type: a YAML mapping, or CSV of two columns."""
    if path.endswith(".csv"):
        found: dict[str, Any] = _csv(path)
    else:
        found = read_yaml(path)
    for name, price in found.items():
        is_number = isinstance(price, (int, float)) and not isinstance(price, bool)
        is_price = is_number and 0 <= price <= sys.float_info.max  # no infinity, nor NaN
        require(is_price, f"{path}: {name}", "dollars an hour, 0 or more and finite", price)
    return {str(name): float(price) for name, price in found.items()}


def _csv(path: str) -> dict[str, Any]:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    found: dict[str, Any] = {}
    for number, row in enumerate(rows, start=1):
        require(len(row) == 2, f"{path}: line {number}", "a name and a price", ",".join(row))
        name, price = (word.strip() for word in row)
        if number == 1 and isinstance(scalar(price), str):
            continue  # a heading
        require(name not in found, f"{path}: {name}", "named once", price)
        found[name] = scalar(price)
    return found
