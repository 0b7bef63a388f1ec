"""Labelling a pool on a cluster, played through on a clock of its own: events, no sleeping.

In: a `Scenario`. Out: its `Outcome`. Next: `played.py`.

A shard is opened, its blocks are read, labelled and written, and it is published before the next
one is opened, as `labeling/shards.py` does it. What is read and not yet labelled is bounded, and so
is what is labelled and not yet written: beyond that the stage before waits. What was on a spot node
when that was taken away is read again, wherever it had got to; what is written stays. Where next to
nothing gets that far it would never end, and is broken off.
"""

from __future__ import annotations

import heapq
import random

from ray_st.planning.scenario import Outcome, Scenario
from ray_st.planning.shard import Shard

_HOPELESS = 20  # blocks lost, or nodes, for each that is written
_PATIENCE = 100  # times as many as there are nodes and blocks of a file are lost before that
# Events: of the whole, of nodes, of tasks.
_OPEN, _DRIVER, _UP, _READY, _LOST, _READ, _LABELLED, _WRITTEN = range(8)


def simulate(scenario: Scenario) -> Outcome:
    """Play it through, if it has an end; the same for the same scenario, its seed included."""
    return _Play(scenario).run()


_Event = tuple[float, int, int, int, int, tuple[int, ...]]


class _Play:
    """The state of one simulation; nodes are known by their place in the scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.plan, self.found = scenario, Outcome()
        self.events: list[_Event] = []
        self.told, self.now = 0, 0.0
        self.driver_at, self.is_awaited = 0.0, False  # when it is free, and whether one waits
        nodes = scenario.nodes
        self.lives = [0] * len(nodes)  # counts births and deaths: an event of another life is void
        self.ready = [False] * len(nodes)
        self.tasks: list[set[tuple[int, int]]] = [set() for _ in nodes]  # event, block
        self.cores: list[int] = []  # a node's number for each free core
        self.teachers: list[int] = []  # and for each free teacher
        self.num_teachers = 0
        self.chance = random.Random(scenario.seed)
        self.left, self.is_open = scenario.images, False
        self.done = 0  # blocks, of all shards
        self.shard = Shard(0, scenario.block_images)

    def run(self) -> Outcome:
        for number, shape in enumerate(self.plan.nodes):
            self._tell(shape.up_s, _UP, number)
        self._open_next()
        events, pop, lives = self.events, heapq.heappop, self.lives
        while self.left and not self.found.is_hopeless:
            self.now, _, kind, node, life, blocks = pop(events)
            if kind == _OPEN:
                self.is_open = True
            elif kind == _DRIVER:
                self.is_awaited = False
            elif lives[node] != life:
                continue
            elif kind < _READ:
                self._change(kind, node)
            else:
                self._finish(kind, node, blocks)
            if self.is_open:
                self._dispatch()
        self.found.seconds = self.now
        return self.found

    def _tell(self, at: float, kind: int, node: int, blocks: tuple[int, ...] = ()) -> None:
        self.told += 1  # of two events at one time the earlier told comes first
        life = self.lives[node] if node >= 0 else 0
        heapq.heappush(self.events, (at, self.told, kind, node, life, blocks))

    def _open_next(self) -> None:
        """Open the next shard, as soon as its pool of teachers has started."""
        if not self.left:
            return
        start = self.plan.start_s
        self.found.closed_s += start
        self.shard = Shard(min(self.left, self.plan.shard_images), self.plan.block_images)
        self._tell(self.now + start, _OPEN, -1)

    def _change(self, kind: int, node: int) -> None:
        shape = self.plan.nodes[node]
        if kind == _UP:
            self.lives[node] += 1
            # Who is there from the beginning starts with the shard.
            self._tell(self.now + (self.plan.start_s if self.now else 0.0), _READY, node)
            if shape.is_spot and self.plan.interruptions_per_hour:
                rate = self.plan.interruptions_per_hour / 3600
                self._tell(self.now + self.chance.expovariate(rate), _LOST, node)
        elif kind == _READY:
            self.ready[node] = True
            self.cores += [node] * shape.cores
            self.teachers += [node] * shape.teachers
            self.num_teachers += shape.teachers
        else:
            self._lose(node)

    def _lose(self, node: int) -> None:
        """Take a node away, and all that lay on it."""
        shard = self.shard
        self.found.interruptions += 1
        self.lives[node] += 1
        if self.ready[node]:
            self.num_teachers -= self.plan.nodes[node].teachers
        self.ready[node] = False
        self.cores = [each for each in self.cores if each != node]
        self.teachers = [each for each in self.teachers if each != node]
        before = len(shard.again)
        for kind, block in sorted(self.tasks[node]):
            shard.again.append(block)
            shard.reading -= kind == _READ
            shard.writing -= kind == _WRITTEN
        self.tasks[node].clear()
        for held in (shard.waiting, shard.labelled):
            shard.again += [block for block, place in held if place == node]
            kept = [pair for pair in held if pair[1] != node]
            held.clear()
            held.extend(kept)
        self.found.lost += len(shard.again) - before
        lost = self.found.lost + self.found.interruptions
        patience = _PATIENCE * (len(self.plan.nodes) + self.plan.blocks_a_file)
        self.found.is_hopeless = lost > _HOPELESS * self.done + patience
        self._tell(self.now + self.plan.restart_s, _UP, node)

    def _finish(self, kind: int, node: int, blocks: tuple[int, ...]) -> None:
        shard, tasks = self.shard, self.tasks[node]
        for block in blocks:
            tasks.discard((kind, block))
        if kind == _READ:
            shard.reading -= 1
            self.cores.append(node)
            shard.waiting.append((blocks[0], node))
            self.found.most_waiting = max(self.found.most_waiting, len(shard.waiting))
        elif kind == _LABELLED:
            self.teachers.append(node)
            self.cores += [node] * self.plan.teacher_cores
            shard.labelled.append((blocks[0], node))
        else:
            shard.writing -= len(blocks)
            self.cores.append(node)
            self._write_down(blocks)

    def _write_down(self, blocks: tuple[int, ...]) -> None:
        shard = self.shard
        for block in blocks:
            assert not shard.written[block], "a block is written once"
            shard.written[block] = 1
            self.found.images += shard.size(block)
        shard.whole += len(blocks)
        self.done += len(blocks)
        if shard.whole == shard.blocks:
            self.is_open = False
            self.left -= shard.images
            self.now += self.plan.publish_s
            self.found.closed_s += self.plan.publish_s
            self._open_next()

    def _dispatch(self) -> None:
        """Start what can start: the last stage first, as Ray Data prefers it."""
        shard, plan = self.shard, self.plan
        if not shard.waiting and not shard.reading and self.teachers and self._may_read(1):
            self._read()  # or a teacher would wait for those who write
        if shard.labelled and self.cores:
            self._write()
        while (
            shard.waiting
            and self.teachers
            and len(self.cores) >= plan.teacher_cores
            and len(shard.labelled) < 2 * plan.blocks_a_file
        ):
            self._predict()
        while self._may_read(plan.ahead * self.num_teachers):
            self._read()

    def _may_read(self, bound: int) -> bool:
        """Whether another block may be read, while fewer than `bound` wait for a teacher."""
        shard = self.shard
        may = (
            self.cores
            and shard.reading < self.plan.readers
            and len(shard.waiting) < bound
            and (shard.again or shard.fresh < shard.blocks)
        )
        if may and self.now < self.driver_at:
            if not self.is_awaited:
                self.is_awaited = True
                self._tell(self.driver_at, _DRIVER, -1)
            return False
        return bool(may)

    def _write(self) -> None:
        shard, most = self.shard, self.plan.blocks_a_file
        while self.cores and (held := len(shard.labelled)):
            is_last = shard.whole + shard.writing + held == shard.blocks
            if held < most and not is_last:
                return
            blocks = tuple(shard.labelled.popleft()[0] for _ in range(min(most, held)))
            shard.writing += len(blocks)
            images = sum(map(shard.size, blocks))
            self._begin("write", _WRITTEN, self.cores.pop(), blocks, self.plan.write_s * images)

    def _predict(self) -> None:
        block, node = self.shard.waiting.popleft()[0], self.teachers.pop()
        if cores := self.plan.teacher_cores:
            del self.cores[-cores:]
        images = self.shard.size(block)
        self.found.labelled += images
        self._begin("predict", _LABELLED, node, (block,), self.plan.predict_s * images)

    def _read(self) -> None:
        shard = self.shard
        if shard.again:
            block = shard.again.pop()
        else:
            block = shard.fresh
            shard.fresh += 1
        images = shard.size(block)
        shard.reading += 1
        self.found.read += images
        self.driver_at = self.now + self.plan.driver_s
        self._begin("read", _READ, self.cores.pop(), (block,), self.plan.read_s * images)

    def _begin(
        self, stage: str, event: int, node: int, blocks: tuple[int, ...], seconds: float
    ) -> None:
        for block in blocks:
            self.tasks[node].add((event, block))
        self.found.busy_s[stage] += seconds
        self._tell(self.now + seconds, event, node, blocks)
