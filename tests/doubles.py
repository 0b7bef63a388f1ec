"""W&B and MLflow as their documentation has them, as far as we use them; what they keep is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


class Wandb(ModuleType):
    """wandb: `init` with `resume="allow"` and a known id goes on with that run."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: dict[str, WandbRun] = {}

    def init(self, *, project: str, id: str, name: str, resume: str, config: Any, dir: Any) -> Any:  # noqa: A002
        assert resume == "allow"
        run = self.runs.setdefault(id, WandbRun(project=project, name=name, config=config))
        run.is_finished = False
        return run


@dataclass
class WandbRun:
    project: str
    name: str
    config: dict[str, Any]
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    is_finished: bool = False

    def log(self, data: dict[str, float], step: int) -> None:
        """Steps only grow: data of an earlier one are dropped, of the same one are added."""
        assert not self.is_finished
        if not self.history or step >= max(self.history):
            self.history.setdefault(step, {}).update(data)

    def finish(self) -> None:
        self.is_finished = True


class Mlflow(ModuleType):
    """mlflow: a client of a server that appends whatever it is sent."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.entities = ModuleType("mlflow.entities")
        self.entities.Metric = lambda key, value, timestamp, step: SimpleNamespace(  # type: ignore[attr-defined]
            key=key, value=value, timestamp=timestamp, step=step
        )
        self.entities.Param = lambda key, value: SimpleNamespace(key=key, value=value)  # type: ignore[attr-defined]
        self.experiments: list[str] = []
        self.runs: list[MlflowRun] = []
        self.MlflowClient = lambda: MlflowClient(self)


@dataclass
class MlflowRun:
    experiment: str
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Any] = field(default_factory=list)
    status: str = "RUNNING"


@dataclass
class MlflowClient:
    server: Mlflow

    def get_experiment_by_name(self, name: str) -> Any:
        has = name in self.server.experiments
        return SimpleNamespace(experiment_id=name) if has else None

    def create_experiment(self, name: str) -> str:
        self.server.experiments.append(name)
        return name

    def search_runs(self, experiment_ids: list[str], filter_string: str) -> list[Any]:
        key, value = filter_string.split(" = ")
        name = key.removeprefix("tags.")
        return [
            self._of(i)
            for i, run in enumerate(self.server.runs)
            if run.experiment in experiment_ids and run.tags.get(name) == value.strip("'")
        ]

    def create_run(self, experiment_id: str, *, tags: dict[str, str]) -> Any:
        self.server.runs.append(MlflowRun(experiment=experiment_id, tags=tags))
        return self._of(len(self.server.runs) - 1)

    def _of(self, number: int) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id=str(number)))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        run = self.server.runs[int(run_id)]
        assert len(params) <= 100
        assert len(metrics) <= 1000
        for param in params:
            assert run.params.setdefault(param.key, param.value) == param.value  # never changes
        run.metrics += metrics

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        return [each for each in self.server.runs[int(run_id)].metrics if each.key == key]

    def set_terminated(self, run_id: str) -> None:
        self.server.runs[int(run_id)].status = "FINISHED"
