"""What Ray's metrics say of us: names once, exported as the dashboard asks for them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from head import ray_head

from ray_st.metrics import ALL, run_of

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "clusters" / "grafana" / "ray_st.json"
EXPORTED = {name for metric in ALL for name in metric.exported}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


@pytest.mark.pure
def test_the_dashboard_asks_for_what_we_export_and_for_all_of_it() -> None:
    panels = dashboard()["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    variables = [json.dumps(each) for each in dashboard()["templating"]["list"]]
    names = set(re.findall(r"\bray_\w+", " ".join(asked)))
    assert names | set(re.findall(r"\bray_\w+", " ".join(variables))) <= EXPORTED
    assert {metric.name for metric in ALL if not names & {*metric.exported}} == set()
    for expression in asked:
        assert expression.count("(") == expression.count(")")
        # `run` is chosen above, for every series that is asked for.
        assert len(re.findall(r"\bray_\w+", expression)) == expression.count('{run=~"$run"}')


@pytest.mark.pure
def test_the_dashboard_can_be_imported_anywhere() -> None:
    found = dashboard()
    choices = {each["name"]: each["type"] for each in found["templating"]["list"]}
    assert choices == {"datasource": "datasource", "run": "query"}
    asking = [*found["panels"], *(t for panel in found["panels"] for t in panel["targets"])]
    asking.append(found["templating"]["list"][1])
    assert all(each["datasource"]["uid"] == "${datasource}" for each in asking)
    ids = [panel["id"] for panel in found["panels"]]
    assert len(set(ids)) == len(ids)
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in found["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["title"] for panel in found["panels"])
    assert "id" not in found  # which an import would take for a dashboard that stands


@pytest.mark.pure
def test_tags_are_those_that_are_declared() -> None:
    names = [metric.name for metric in ALL]
    assert len(set(names)) == len(names)
    assert all(name.startswith("st_") for name in names)


@pytest.mark.pure
@pytest.mark.parametrize(
    ("out", "short"),
    [
        ("/shared/runs/mine/teacher", "mine/teacher"),
        ("runs/mine/", "runs/mine"),
        ("s3://bucket/labels?endpoint_override=h:1&scheme=http", "bucket/labels"),
        ("s3://key:secret@bucket/a/b/c", "b/c"),
        ("mine", "mine"),
    ],
)
def test_short_names_of_runs(out: str, short: str) -> None:
    assert run_of(out) == short


TELLING = """
import sys, time, urllib.request
import ray
from ray_st.cluster.session import connected
from ray_st.labeling.meter import Meter
from ray_st.metrics import TrainingMetrics

def scraped():
    node, = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    return urllib.request.urlopen(url, timeout=10).read().decode()

with connected(sys.argv[1]) as dashboard:
    print("dashboard", dashboard)
    clean = Meter.begun(10, "no/failure")
    meter = Meter.begun(10, "a/b")
    meter.read(0.5)
    meter.predicted("t", 7, 0.25, ["gone"], 2, 3)
    meter.predicted("t", 1, 0.25, [], 0, 0)
    row = {"loss_human": 0.5, "loss_pseudo": 0.25, "mean_human": 2.0, "mean_pseudo": 4.0,
           "ratio": 0.5, "images_per_s": 9.0, "skipped_steps": 1.0, "lr": 0.1}
    told = TrainingMetrics("a/b", "student")
    until = time.monotonic() + 90
    while time.monotonic() < until:
        told.put(12, row)
        text = scraped()
        seen = ("ray_st_images_labelled", "ray_st_step", 'run="no/failure"')
        if all(each in text for each in seen):
            break
        time.sleep(1)
    print("\\n".join(line for line in text.splitlines() if line.startswith("ray_st_")))
"""


def series(text: str, run: str) -> dict[tuple[str, str, str], float]:
    """Name, stage and what else tells a run's series apart, to values."""
    found = {}
    for name, tags, value in re.findall(r"^(ray_st_\w+)\{(.*)\} (\S+)", text, re.MULTILINE):
        known = dict(re.findall(r'(\w+)="([^"]*)"', tags))
        assert known["run"] in ("a/b", "no/failure")
        more = known.get("origin") or known.get("work") or ""
        if known["run"] == run and "le" not in known:
            found[name, known["stage"], more] = float(value)
    return found


@pytest.mark.cluster
def test_ray_exports_them_under_these_names() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ray_head_") as folder,
        ray_head(Path(folder), num_cpus=2) as head,
    ):
        environment = {**head.environment, "PYTHONPATH": os.environ["PYTHONPATH"]}
        words = [sys.executable, "-c", TELLING, head.gcs_address]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        assert f"dashboard {head.dashboard_url}\n" in done.stdout, done.stderr
    found = series(done.stdout, "a/b")
    assert {name for name, _, _ in found} | {"ray_st_batch_seconds_bucket"} == EXPORTED
    assert "ray_st_batch_seconds_bucket{" in done.stdout
    assert found["ray_st_images_labelled_total", "label", ""] == 8
    assert found["ray_st_image_failures_total", "label", ""] == 2
    assert found["ray_st_images_empty_total", "label", ""] == 3
    assert found["ray_st_batch_seconds_count", "label", "read"] == 1
    assert found["ray_st_batch_seconds_count", "label", "predict"] == 2
    assert found["ray_st_loss", "student", "human"] == 0.5
    assert found["ray_st_loss", "student", "pseudo"] == 0.25
    assert found["ray_st_loss_mean", "student", "pseudo"] == 4.0
    assert found["ray_st_loss_ratio", "student", ""] == 0.5
    assert found["ray_st_step", "student", ""] == 12
    # Before its first batch too: a share of nothing known, and a rate without its first count.
    assert series(done.stdout, "no/failure") == {
        ("ray_st_images_labelled_total", "label", ""): 0,
        ("ray_st_image_failures_total", "label", ""): 0,
        ("ray_st_images_empty_total", "label", ""): 0,
    }
