"""What of a folder travels with a job, and what its nodes install."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_st.cluster.working_dir import EXCLUDES, MOST_BYTES, runtime_env, travelling_files
from ray_st.config import UserError

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with one file."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.yaml").write_text("train: {steps: 7}\n")
    return tmp_path / "here"


def test_what_travels(folder: Path) -> None:
    kept = ["mine.yaml", "pkg/a.py", "pkg/runs/b.py", "pkg/build/c.py", "runs.txt"]
    left = ["runs/x", "build/x", "dist/x", ".git/x", ".venv/x", "pkg/__pycache__/x", "a.egg-info/x"]
    left += [".mypy_cache/x", "secret.env", "pkg/big.bin"]
    for name in [*kept, *left]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("train: {}\n")
    (folder / ".gitignore").write_text("*.env\n")
    (folder / "pkg" / ".rayignore").write_text("*.bin\n")
    found = {str(file.relative_to(folder)) for file in travelling_files(folder)}
    assert found == {*kept, ".gitignore", "pkg/.rayignore"}


def test_what_travels_is_what_ray_packs(folder: Path) -> None:
    """Our count of files is worth nothing if Ray's own package holds others."""
    import zipfile

    from ray._private import ray_constants
    from ray._private.runtime_env.packaging import create_package

    for name in ("pkg/a.py", "runs/x", ".venv/x", "a.env", "pkg/b.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / ".gitignore").write_text("*.env\n")
    target = folder.parent / "package.zip"
    rules = [*ray_constants.get_runtime_env_default_excludes(), *EXCLUDES]
    create_package(str(folder), target, include_gitignore=True, excludes=rules)
    packed = {name for name in zipfile.ZipFile(target).namelist() if not name.endswith("/")}
    assert packed == {str(file.relative_to(folder)) for file in travelling_files(folder)}
    assert packed == {"mine.yaml", "pkg/a.py", ".gitignore", "pkg/b.bin"}


def test_too_much_to_send(folder: Path) -> None:
    (folder / "images").mkdir()
    for name, size in (("images/a", MOST_BYTES // 2), ("images/b", MOST_BYTES // 4)):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    travelling_files(folder)
    with (folder / "weights.pt").open("wb") as file:
        file.truncate(MOST_BYTES // 4)
    with pytest.raises(UserError) as caught:
        travelling_files(folder)
    assert str(caught.value).startswith(
        f"working_dir: must hold at most 100.0 MiB to send, got 100.0 MiB in {folder}: images/ "
        "(75.0 MiB), weights.pt (25.0 MiB), mine.yaml (0.0 MiB); name what need not travel in a "
    )
    (folder / ".rayignore").write_text("weights.pt\n")
    travelling_files(folder)


def test_what_nodes_install_is_what_the_constraints_say() -> None:
    from ray.runtime_env import RuntimeEnv

    assert "pip" not in runtime_env(ROOT, install=False)
    env = runtime_env(ROOT, install=True)
    packages = env["pip"]["packages"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert {*packages[:-1]} <= {*lines}
    names = {line.partition("==")[0] for line in packages[:-1]}
    assert {"torch", "timm", "PyYAML", "tensorboardX", "scikit-learn"} <= names
    assert not {"ray", "pytest", "mlflow"} & names  # the cluster's own; not needed by a job
    place = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}"
    assert packages[-1] == f"--constraint {place}/constraints.txt"
    kept = RuntimeEnv(**{**env, "working_dir": "gcs://_ray_pkg_0.zip"}).to_dict()
    assert kept["pip"]["packages"] == packages
