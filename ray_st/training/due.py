"""When the loop does more than the next step.

In: `TrainConfig`, and a way to ask for notices of pre-emption. Out: `Due`. Every worker must come
to the same answer, for what follows is done by all together. Next: `checkpoints.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from ray_st.training.schedule import TrainConfig


class Due:
    """What is to be done when so many steps are done."""

    def __init__(self, config: TrainConfig, begun_at: int, look: Callable[[], object]) -> None:
        """`begun_at`: steps that were done before, with all that was due after them.

        `look` says which nodes will be taken away: None, or something that equals itself as long
        as nothing new is known. It is asked by all workers at the same steps.
        """
        self._config, self._begun_at, self._look = config, begun_at, look
        self._known: object = None

    def evaluation(self, step: int) -> bool:
        """Whether the model is evaluated now."""
        return step == self._config.steps or self._every(self._config.evaluate_every, step)

    def checkpoint(self, step: int) -> bool:
        """Whether the state is kept now; it always is where the model was evaluated."""
        is_warned = self._is_warned(step)
        return self.evaluation(step) or self._is_periodic(step) or is_warned

    def _is_periodic(self, step: int) -> bool:
        # Without workers there is nothing to start again.
        return self._config.num_workers != 0 and self._every(self._config.checkpoint_every, step)

    def _is_warned(self, step: int) -> bool:
        """Whether a notice has come since the last look."""
        if not self._every(self._config.preemption_every, step):
            return False
        before, self._known = self._known, self._look()
        return self._known is not None and self._known != before

    def _every(self, every: int | None, step: int) -> bool:
        return every is not None and step > self._begun_at and step % every == 0
