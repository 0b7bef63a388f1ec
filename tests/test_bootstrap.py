"""What `ray up` does with a cloud account before a node starts: Ray's own code, on our files.

AWS is moto, in this process. Google's client is not installed: of Ray's code for it, what needs no
client is taken.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from bucket import CREDENTIALS
from click import ClickException
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import prepare_config

pytestmark = pytest.mark.pure

CLUSTERS = Path(__file__).parents[1] / "clusters"
README = (CLUSTERS / "README.md").read_text()
REGION = "eu-west-1"  # any but the one that Ray takes by itself


@pytest.fixture
def ec2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An account that is empty but for what AWS itself makes."""
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps the key of its nodes there
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield boto3.client("ec2", region_name=REGION)


def made(ec2: Any, zone: str, *, is_public: bool) -> dict[str, str]:
    """What README has made, and stands in the file in place of REPLACE."""
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/20", AvailabilityZone=zone)
    subnet_id = subnet["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=subnet_id, MapPublicIpOnLaunch={"Value": is_public})
    group = ec2.create_security_group(GroupName="ray-st", Description="ray-st", VpcId=vpc)
    return {
        "sg-REPLACE": group["GroupId"],
        "subnet-REPLACE": subnet_id,
        "ami-REPLACE": "ami-12345678",
        "iam::REPLACE": "iam::123456789012",
        "region: REPLACE": f"region: {REGION}",
    }


def filled_in(replaced: dict[str, str]) -> dict[str, Any]:
    text = (CLUSTERS / "aws.yaml").read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    config: dict[str, Any] = yaml.safe_load(text)
    assert "REPLACE" not in str(config)
    return config


@pytest.mark.parametrize("zone", [f"{REGION}a", f"{REGION}c"])
def test_what_is_replaced_is_all_that_aws_needs(ec2: Any, zone: str) -> None:
    replaced = made(ec2, zone, is_public=True)
    ready = bootstrap_aws(prepare_config(filled_in(replaced)))
    for kind in ready["available_node_types"].values():
        assert kind["node_config"]["SubnetIds"] == [replaced["subnet-REPLACE"]]
        assert kind["node_config"]["SecurityGroupIds"] == [replaced["sg-REPLACE"]]
        assert kind["node_config"]["KeyName"] == f"ray-autoscaler_{REGION}"
    groups = ec2.describe_security_groups()["SecurityGroups"]
    assert {group["GroupName"] for group in groups} == {"default", "ray-st"}


def test_a_subnet_without_public_addresses_needs_the_providers_word(ec2: Any) -> None:
    replaced = made(ec2, f"{REGION}a", is_public=False)
    config = filled_in(replaced)
    with pytest.raises(ClickException):
        bootstrap_aws(prepare_config(config))
    assert "`use_internal_ips: true`" in README
    config["provider"]["use_internal_ips"] = True
    ready = bootstrap_aws(prepare_config(config))
    head = ready["available_node_types"]["head"]["node_config"]
    assert head["SubnetIds"] == [replaced["subnet-REPLACE"]]


def of_gcp(*names: str) -> dict[str, Any]:
    """Names of Ray's code for Google Cloud, without what it imports."""
    spec = importlib.util.find_spec("ray.autoscaler._private")
    assert spec is not None
    assert spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0], "gcp", "config.py")
    wanted = [
        node
        for node in ast.parse(file.read_text()).body
        if (isinstance(node, ast.FunctionDef) and node.name in names)
        or (
            isinstance(node, ast.Assign) and {*names} & {ast.unparse(each) for each in node.targets}
        )
    ]
    found: dict[str, Any] = {}
    exec(compile(ast.Module(wanted, []), str(file), "exec"), found)
    return found


class Project:
    """A project's policy: who has which role."""

    def __init__(self, bindings: list[dict[str, Any]]) -> None:
        self.policy = {"bindings": bindings}
        self.written: list[dict[str, Any]] = []
        self._answer: Any = None

    def projects(self) -> Project:
        return self

    def getIamPolicy(self, **_: Any) -> Project:
        self._answer = self.policy
        return self

    def setIamPolicy(self, *, resource: str, body: dict[str, Any]) -> Project:
        self.written.append(body["policy"])
        return self

    def execute(self) -> Any:
        return self._answer


def test_the_readme_knows_the_account_that_ray_makes_on_google_cloud() -> None:
    ray = of_gcp(
        *("RAY", "VERSION", "DEFAULT_SERVICE_ACCOUNT_ID", "DEFAULT_SERVICE_ACCOUNT_ROLES"),
        *("_configure_iam_role", "_add_iam_policy_binding"),
    )
    name, roles = ray["DEFAULT_SERVICE_ACCOUNT_ID"], ray["DEFAULT_SERVICE_ACCOUNT_ROLES"]
    (block,) = re.findall(
        r"    gcloud iam service-accounts create .*?service-accounts disable[^\n]*", README, re.S
    )
    (loop,) = re.findall(r"for role in (.*?); do", block)
    assert [f"roles/{role}" for role in loop.split()] == roles
    assert f"create {name} " in block
    assert f"disable {name}@" in block
    # Where an account has them, Ray changes no policy; where not, it does.
    account = {"projectId": "p", "email": f"{name}@p.iam.gserviceaccount.com"}
    member = f"serviceAccount:{account['email']}"
    prepared = Project([{"role": role, "members": ["user:me", member]} for role in roles])
    ray["_add_iam_policy_binding"](account, roles, prepared)
    assert prepared.written == []
    untouched = Project([])
    ray["_add_iam_policy_binding"](account, roles, untouched)
    (policy,) = untouched.written
    assert policy["bindings"] == [{"role": role, "members": [member]} for role in roles]


def test_no_node_runs_as_the_account_that_ray_makes() -> None:
    kinds = yaml.safe_load((CLUSTERS / "gcp.yaml").read_text())["available_node_types"]
    accounts = {
        kind: node["node_config"]["serviceAccounts"][0]["email"].partition("@")[0]
        for kind, node in kinds.items()
    }
    # `ray up` lays the head's node_config over what its bootstrap found.
    assert accounts.pop("head") == "ray-st-head"
    assert {*accounts.values()} == {"ray-st-worker"}
