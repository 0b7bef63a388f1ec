"""A cloud that is this machine: Ray's own autoscaler, and nodes that are processes of the head's.

The groups are those of `clusters/aws.yaml`, smaller: a head, and teachers that begin at none. Their
GPU is only said to be there: Ray counts it, and a teacher that wants one would look in vain.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos import children, kill
from head import Head

from ray_st.cluster.session import GROWS_TO

_HEAD = "ray.head.default"  # the provider knows no other name
_HEAD_ID = "f" * 51 + "00000"  # the provider counts on from it
_STORE_BYTES = 100 << 20


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """What may be started."""

    head_cpus: int
    most_teachers: int
    idle_s: float = 12.0  # a node that has nothing to do goes after

    @property
    def environment(self) -> dict[str, str]:
        """Of the head and of those who work with it."""
        return {GROWS_TO: f"CPU={self.head_cpus + self.most_teachers},GPU={self.most_teachers}"}

    @property
    def of_head(self) -> dict[str, str]:
        """Of the head alone, and of its nodes."""
        return {
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
            "OMP_NUM_THREADS": "1",
        }

    def written(self, folder: Path, gcs_address: str) -> Path:
        """What the head reads at its start."""
        file = folder / "cluster.json"
        file.write_text(json.dumps(self._config(gcs_address)))
        return file

    def _config(self, gcs_address: str) -> dict[str, Any]:
        commands = (
            "setup_commands", "initialization_commands", "head_setup_commands",
            "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands",
        )  # fmt: skip
        return {
            "cluster_name": "ray-st-test",
            "max_workers": self.most_teachers,
            "idle_timeout_minutes": self.idle_s / 60,
            "upscaling_speed": 4.0,
            "provider": {
                "type": "external",
                "module": "ray.autoscaler._private.fake_multi_node.node_provider."
                "FakeMultiNodeProvider",
                "gcs_address": gcs_address,
                "head_node_id": _HEAD_ID,
                "launch_multiple": True,
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "auth": {},
            "head_node_type": _HEAD,
            "available_node_types": {
                _HEAD: {
                    "resources": {"CPU": self.head_cpus},
                    "labels": {"pool": "head"},
                    "node_config": {},
                    "max_workers": 0,
                },
                "teacher": {
                    "resources": {"CPU": 1, "GPU": 1, "object_store_memory": _STORE_BYTES},
                    "labels": {"pool": "teacher"},
                    "node_config": {},
                    "min_workers": 0,
                    "max_workers": self.most_teachers,
                },
            },
            "file_mounts": {},
            "cluster_synced_files": [],
            "file_mounts_sync_continuously": False,
            "rsync_exclude": [],
            "rsync_filter": [],
            **{name: [] for name in commands},
        }


def take_away(head: Head, node_id: str) -> None:
    """Kill a node with all that runs on it, as when a spot instance is taken without a word."""
    (raylet,) = (pid for pid in _below(head.pid) if _is_raylet(pid, node_id))
    for pid in [*children(raylet), raylet]:
        kill(pid)


def _below(pid: int) -> list[int]:
    found = children(pid)
    return found + [each for child in found for each in _below(child)]


def _is_raylet(pid: int, node_id: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    mine = f"RAY_OVERRIDE_NODE_ID_FOR_TESTING={node_id}"
    return Path(words[0]).name == "raylet" and mine in variables
