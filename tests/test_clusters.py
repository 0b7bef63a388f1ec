"""The files that start clusters: as Ray and KubeRay read them, and beside this package."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from kuberay import ClusterSpec, RayCluster, RayJob, plain
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import prepare_config, validate_config

from ray_st.cluster.placement import labeling_needs, require_fits, training_needs
from ray_st.cluster.session import GROWS_TO
from ray_st.config import UserError, from_dict
from ray_st.labeling.config import LabelConfig
from ray_st.nodes import require_some
from ray_st.training.schedule import TrainConfig
from ray_st.verbs.words import config_of, verb_of

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[1]
CLUSTERS = ROOT / "clusters"
LAUNCHER = ("aws.yaml", "gcp.yaml")
KUBERAY = ("kuberay/raycluster.yaml", "kuberay/rayjob.yaml")
TEXTS = [*LAUNCHER, *KUBERAY, "kuberay/networkpolicy.yaml", "slurm.sh", "Dockerfile", "README.md"]
POOLS = {"decode", "teacher", "student"}


def read(name: str) -> dict[str, Any]:
    return plain(yaml.safe_load((CLUSTERS / name).read_text()))


def kuberay_spec(name: str) -> dict[str, Any]:
    found = read(name)["spec"]
    return plain(found["rayClusterSpec"] if name.endswith("rayjob.yaml") else found)


def node_types(name: str) -> dict[str, Any]:
    """What the autoscaler makes of a file: resources, labels and numbers of each kind of node."""
    if name in LAUNCHER:
        return plain(prepare_config(read(name))["available_node_types"])
    spec = {
        **kuberay_spec(name),
        "workerGroupSpecs": [
            {"replicas": 0, **group} for group in kuberay_spec(name)["workerGroupSpecs"]
        ],
    }
    found = {"metadata": {"name": "ray-st", "namespace": "default"}, "spec": spec}
    return plain(_derive_autoscaling_config_from_ray_cr(found)["available_node_types"])


def head_of(name: str) -> str:
    return "head" if name in LAUNCHER else "headgroup"


@pytest.mark.parametrize("name", LAUNCHER)
def test_ray_takes_the_launchers_files(name: str) -> None:
    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", LAUNCHER)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda config: config.update(max_worker=3),
        lambda config: config["available_node_types"]["teacher"]["resources"].update(GPU="1"),
        lambda config: config["available_node_types"]["teacher"]["labels"].update(pool=1),
        lambda config: config.pop("provider"),
    ],
)
def test_ray_would_refuse_a_spoilt_file(name: str, spoil: Any) -> None:
    config = read(name)
    spoil(config)
    with pytest.raises(Exception, match=r"max_worker|'1'|is not of type|provider"):
        validate_config(prepare_config(config))


def test_kuberays_files_hold_known_fields_only() -> None:
    cluster = from_dict(RayCluster, read("kuberay/raycluster.yaml"))
    job = from_dict(RayJob, read("kuberay/rayjob.yaml"))
    assert isinstance(cluster.spec, ClusterSpec)
    # One cluster, written twice; the operator reaches the dashboard of a job's cluster.
    mine, its = kuberay_spec("kuberay/raycluster.yaml"), kuberay_spec("kuberay/rayjob.yaml")
    assert mine["headGroupSpec"]["rayStartParams"].pop("dashboard-host") == "127.0.0.1"
    assert its["headGroupSpec"]["rayStartParams"].pop("dashboard-host") == "0.0.0.0"
    assert mine == its
    assert job.spec.backoffLimit > 0  # each try goes on in the same folder
    spoilt = read("kuberay/raycluster.yaml")
    spoilt["spec"]["headGroupSpec"]["template"]["spec"]["hostNetwork"] = True
    with pytest.raises(UserError, match="hostNetwork: unknown key"):
        from_dict(RayCluster, spoilt)


@pytest.mark.parametrize("name", [*LAUNCHER, *KUBERAY])
def test_the_groups_are_those_that_work_is_sent_to(name: str) -> None:
    kinds = node_types(name)
    head = kinds.pop(head_of(name))
    assert head["resources"]["CPU"] == 0  # no work on the node that the cluster ends with
    assert {kind["labels"]["pool"] for kind in kinds.values()} == POOLS
    assert all(kind["labels"]["pool"] == group for group, kind in kinds.items())
    assert all(kind["min_workers"] == 0 for kind in kinds.values())  # nothing idle costs anything
    labels = [kind["labels"] for kind in kinds.values()]
    teachers = LabelConfig(actors=(1, 32), gpus_per_actor=1, cpus_per_actor=2,
                           nodes=("pool=teacher",))  # fmt: skip
    students = TrainConfig(num_workers=4, use_gpu=True, cpus_per_worker=8, nodes=("pool=student",))
    require_some(teachers.nodes, "label.nodes", labels)
    require_some(students.nodes, "train.nodes", labels)
    # A teacher fits on one teacher node; a whole gang and its loaders on one student node.
    for config_needs, group in (
        (labeling_needs(teachers), "teacher"),
        (training_needs(students, has_pseudo=True), "student"),
    ):
        have = kinds[group]["resources"]
        require_fits(config_needs, cpus=have["CPU"], gpus=have["GPU"])
    assert "GPU" not in kinds["decode"]["resources"]


@pytest.mark.parametrize("name", [*LAUNCHER, *KUBERAY])
def test_a_job_is_told_what_the_cluster_may_grow_to(name: str) -> None:
    kinds = node_types(name)
    del kinds[head_of(name)]
    most = {
        kind: sum(each["resources"].get(kind, 0) * each["max_workers"] for each in kinds.values())
        for kind in ("CPU", "GPU")
    }
    said = f"{GROWS_TO}=CPU={most['CPU']},GPU={most['GPU']}"
    if name in LAUNCHER:
        assert read(name)["docker"]["head_run_options"] == [f"--env {said}"]
        assert read(name)["max_workers"] == sum(each["max_workers"] for each in kinds.values())
    else:
        (container,) = kuberay_spec(name)["headGroupSpec"]["template"]["spec"]["containers"]
        assert [f"{each['name']}={each['value']}" for each in container["env"]] == [said]


def test_teachers_are_spot_and_students_are_not() -> None:
    aws = {name: kind["node_config"] for name, kind in node_types("aws.yaml").items()}
    spot = {name for name, node in aws.items() if "InstanceMarketOptions" in node}
    assert spot == {"decode", "teacher"}
    assert aws["teacher"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    gcp = {name: kind["node_config"] for name, kind in node_types("gcp.yaml").items()}
    assert {
        name for name, node in gcp.items() if node.get("scheduling", {}).get("preemptible")
    } == {
        "decode",
        "teacher",
    }
    for name in KUBERAY:
        tolerant = {
            group["groupName"]
            for group in kuberay_spec(name)["workerGroupSpecs"]
            if {"key": "ray-st/spot", "operator": "Exists"}
            in group["template"]["spec"]["tolerations"]
        }
        assert tolerant == {"decode", "teacher"}


def test_the_jobs_command_is_one_that_its_verb_takes() -> None:
    python, dash_m, package, verb, *flags = shlex.split(
        read("kuberay/rayjob.yaml")["spec"]["entrypoint"]
    )
    assert [python, dash_m, package] == ["python", "-m", "ray_st"]
    config = config_of(verb_of(verb), flags)
    assert (config.label.nodes, config.train.nodes) == (("pool=teacher",), ("pool=student",))
    assert Path(config.out).is_absolute()


def versions() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"ray": pinned["ray"], "ray-st": project["version"]}


@pytest.mark.parametrize("name", TEXTS)
def test_versions_are_the_projects(name: str) -> None:
    text, pinned = (CLUSTERS / name).read_text(), versions()
    images = re.findall(r"[\w./-]*/ray-st:[\w.-]+", text)
    wanted = f"registry.example.com/ray-st:{pinned['ray-st']}-ray{pinned['ray']}"
    assert {*images} <= {wanted}
    assert {*re.findall(r"rayproject/ray:(\S+?)-py", text)} <= {pinned["ray"]}
    assert {*re.findall(r'rayVersion: "(\S+)"', text)} <= {pinned["ray"]}
    if name in (*LAUNCHER, *KUBERAY):
        assert images


def test_the_image_is_built_from_the_constraints_and_holds_what_it_copies() -> None:
    text = (CLUSTERS / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{versions()['ray']}-py311\n" in text
    assert '--constraint constraints.txt ".[cluster]"' in text
    copied = [
        word for line in text.splitlines() if line.startswith("COPY") for word in line.split()[2:-1]
    ]
    ignored = (CLUSTERS / "Dockerfile.dockerignore").read_text().splitlines()
    assert all((ROOT / name).exists() for name in copied)
    assert {line[1:] for line in ignored if line.startswith("!")} == {*copied}
    assert "ray-st[cluster]" not in text
    assert (
        "cluster"
        in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_is_open_to_the_world(name: str) -> None:
    """No address of everybody but the pod's own, which a policy guards; no way in from outside."""
    text = (CLUSTERS / name).read_text()
    allowed = 1 if name == "kuberay/rayjob.yaml" else 0
    assert len(re.findall(r"0\.0\.0\.0|::/0", text)) == allowed
    for word in (
        "NodePort",
        "LoadBalancer",
        "hostPort",
        "hostNetwork",
        "Ingress\n",
        "accessConfigs:",
    ):
        assert word not in text
    hosts = re.findall(r'dashboard-host[=:] ?"?([\d.]+)', text)
    assert {*hosts} <= ({"0.0.0.0"} if allowed else {"127.0.0.1"})


@pytest.mark.parametrize("name", TEXTS)
def test_no_secret_stands_in_a_file(name: str) -> None:
    text = (CLUSTERS / name).read_text()
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|AIza[\w-]{20}|\b[0-9a-f]{40,}\b", text)
    literal = re.findall(r"RAY_AUTH_TOKEN[=:]\s*(\S+)", text)
    assert all(each.startswith(('"$(', "$(", "...")) for each in literal)


def test_everybody_needs_the_token() -> None:
    for name in LAUNCHER:
        config = read(name)
        assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
        assert config["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    for name in KUBERAY:
        assert kuberay_spec(name)["authOptions"] == {"mode": "token"}
    assert "export RAY_AUTH_MODE=token" in (CLUSTERS / "slurm.sh").read_text()
    assert "ENV RAY_AUTH_MODE=token" in (CLUSTERS / "Dockerfile").read_text()


def test_aws_makes_no_security_group_of_its_own() -> None:
    """Ray's own lets in SSH from everywhere."""
    for kind in node_types("aws.yaml").values():
        assert kind["node_config"]["SecurityGroupIds"] == ["sg-REPLACE"]
        assert kind["node_config"]["SubnetIds"] == ["subnet-REPLACE"]
        assert "instance-profile/ray-st-" in kind["node_config"]["IamInstanceProfile"]["Arn"]
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_gcp_gives_no_node_a_public_address() -> None:
    assert read("gcp.yaml")["provider"]["use_internal_ips"] is True
    for kind in node_types("gcp.yaml").values():
        (interface,) = kind["node_config"]["networkInterfaces"]
        assert interface.keys() == {"kind", "subnetwork"}
        assert len(kind["node_config"]["serviceAccounts"]) == 1


def test_gcps_places_are_one_place_and_its_disks_are_taken_by_all_machines() -> None:
    provider = read("gcp.yaml")["provider"]
    region, zone = provider["region"], provider["availability_zone"]
    assert zone.startswith(f"{region}-")
    for kind in node_types("gcp.yaml").values():
        (disk,) = kind["node_config"]["disks"]
        assert disk["initializeParams"]["diskType"] == f"zones/{zone}/diskTypes/pd-balanced"
        (interface,) = kind["node_config"]["networkInterfaces"]
        assert f"/regions/{region}/" in interface["subnetwork"]


def test_the_network_policy_lets_in_the_cluster_and_its_operator() -> None:
    spec = read("kuberay/networkpolicy.yaml")["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["podSelector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    among, operator = spec["ingress"]
    assert among == {"from": [{"podSelector": spec["podSelector"]}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
    (peer,) = operator["from"]
    assert peer["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}


def test_slurms_script_is_a_script_and_its_flags_are_rays() -> None:
    script = CLUSTERS / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    from ray.scripts.scripts import start
    from ray.scripts.symmetric_run import symmetric_run

    known = {
        option for each in (start, symmetric_run) for param in each.params for option in param.opts
    }
    ours = script.read_text().partition("ray symmetric-run")[2].partition(" -- ")[0]
    flags = {*re.findall(r"--[a-z-]+", ours)}
    assert "--min-nodes" in flags
    assert flags <= known
