# ruff: noqa: N815 - the names are those of KubeRay
"""Those fields of KubeRay's RayCluster and RayJob (ray.io/v1, KubeRay 1.7) that our files use.

A field that is not here is refused, as the CRD's schema would refuse a word that it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Texts = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Variable:
    """EnvVar."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Resources:
    """ResourceRequirements; amounts are text or whole numbers."""

    limits: Mapping[str, str | int]
    requests: Mapping[str, str | int]


@dataclass(frozen=True, kw_only=True)
class Mount:
    """VolumeMount."""

    name: str
    mountPath: str


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A volume; one source each."""

    name: str
    persistentVolumeClaim: Texts | None = None
    emptyDir: Texts | None = None

    def __post_init__(self) -> None:
        assert (self.persistentVolumeClaim is None) != (self.emptyDir is None)
        assert (self.persistentVolumeClaim or {"claimName": ""}).keys() == {"claimName"}
        assert self.emptyDir in (None, {"medium": "Memory"})


@dataclass(frozen=True, kw_only=True)
class Container:
    """Container; no `ports`, so that none can be a host's."""

    name: str
    image: str
    resources: Resources
    volumeMounts: tuple[Mount, ...]
    env: tuple[Variable, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """Toleration."""

    key: str
    operator: Literal["Exists"]


@dataclass(frozen=True, kw_only=True)
class PodSpec:
    """PodSpec; no `hostNetwork`."""

    serviceAccountName: str
    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...]
    nodeSelector: Texts | None = None
    tolerations: tuple[Toleration, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Template:
    """PodTemplateSpec."""

    spec: PodSpec


@dataclass(frozen=True, kw_only=True)
class HeadGroup:
    """HeadGroupSpec; ClusterIP is the one kind of service that stays inside."""

    serviceType: Literal["ClusterIP"]
    rayStartParams: Texts
    template: Template


@dataclass(frozen=True, kw_only=True)
class WorkerGroup:
    """WorkerGroupSpec."""

    groupName: str
    minReplicas: int
    maxReplicas: int
    labels: Texts
    rayStartParams: Texts
    template: Template


@dataclass(frozen=True, kw_only=True)
class AutoscalerOptions:
    """AutoscalerOptions."""

    version: Literal["v2"]
    idleTimeoutSeconds: int


@dataclass(frozen=True, kw_only=True)
class AuthOptions:
    """AuthOptions."""

    mode: Literal["token"]


@dataclass(frozen=True, kw_only=True)
class ClusterSpec:
    """RayClusterSpec."""

    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: tuple[WorkerGroup, ...]


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """RayJobSpec."""

    entrypoint: str
    submissionMode: Literal["HTTPMode"]
    backoffLimit: int
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int
    rayClusterSpec: ClusterSpec


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """The whole file."""

    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Texts
    spec: ClusterSpec


@dataclass(frozen=True, kw_only=True)
class RayJob:
    """The whole file."""

    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Texts
    spec: JobSpec


def plain(value: Any) -> dict[str, Any]:
    """YAML's own mapping, checked to be one."""
    assert isinstance(value, dict)
    return value
