"""NT-Xent against a slow double loop, in one process and in two; what is unreadable; the gather."""

import math

import pytest
import torch
from ranks import on_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ray_st.config import UserError
from ray_st.data.labels import ClassLabel, Origin
from ray_st.tasks.simclr import SimCLR, SimCLRConfig, gathered
from ray_st.tasks.task import Objective, Task
from ray_st.training.loss_balance import LossBalance, balanced_loss

torch.set_num_threads(1)

TEMPERATURE = 0.2
UNREADABLE = -1


def projections(count, *, seed=0, width=5):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def nt_xent(first, second, images, temperature=TEMPERATURE):
    """Loss and rightness of every anchor; a pair of which an image is -1 does not take part."""
    views, shown = [*first, *second], [*images, *images]
    count, losses, is_right = len(images), [], []
    for i, anchor in enumerate(views):
        if shown[i] == UNREADABLE:
            continue

        def likeness(k, anchor=anchor):
            return (torch.dot(anchor, views[k]) / anchor.norm() / views[k].norm()).item()

        twin = i + count if i < count else i - count
        known = [k for k in range(2 * count) if shown[k] not in (UNREADABLE, shown[i])]
        terms = [math.exp(likeness(k) / temperature) for k in [twin, *known]]
        losses.append(-math.log(terms[0] / sum(terms)))
        is_right.append(terms[0] > max(terms[1:], default=0.0))
    return losses, is_right


def sums_of(first, second, images):
    targets = torch.tensor([*images, *images])
    return SimCLR(temperature=TEMPERATURE).loss_sums(torch.cat([first, second]), targets)


@pytest.mark.pure
@pytest.mark.parametrize(
    "images",
    [
        [0, 1],
        [4, 2, 9, 7, 1],
        [3],  # nothing to be unlike
        [0, UNREADABLE, 5, UNREADABLE],
        [8, 1, 8, 2],  # the end of one epoch and the start of the next, say
        [2, 2],
    ],
)
def test_nt_xent_is_that_of_a_double_loop(images):
    count = len(images)
    first, second = projections(count, seed=1), projections(count, seed=2)
    second = second + first  # alike enough that some anchors are right
    sums = sums_of(first, second, images)
    losses, is_right = nt_xent(first, second, images)
    known = torch.tensor([*images, *images]) != UNREADABLE
    torch.testing.assert_close(sums.sums[known], torch.tensor(losses), rtol=1e-4, atol=1e-6)
    assert sums.parts["accuracy"][known].bool().tolist() == is_right
    assert sums.counts.tolist() == known.float().tolist()
    assert not sums.sums[~known].any()
    assert not sums.parts["accuracy"][~known].any()


@pytest.mark.pure
def test_a_batch_by_hand():
    # Two images whose views agree and which are at right angles: cosines 1, 0, 0.
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    sums = sums_of(first, first, [0, 1])
    expected = math.log(1 + 2 * math.exp(-1 / TEMPERATURE))
    torch.testing.assert_close(sums.sums, torch.full((4,), expected))
    assert sums.parts["accuracy"].tolist() == [1, 1, 1, 1]


@pytest.mark.pure
def test_unreadable_images_change_nothing_and_learn_nothing():
    first, second = projections(3, seed=1), projections(3, seed=2)
    blank = torch.zeros(1, 5)
    images = [0, 1, UNREADABLE, 2]
    with_blank = [torch.cat([x[:2], blank, x[2:]]).requires_grad_() for x in (first, second)]
    sums = sums_of(*with_blank, images)
    kept = torch.tensor([0, 1, 3, 4, 5, 7])
    torch.testing.assert_close(sums.sums[kept], sums_of(first, second, [0, 1, 2]).sums)
    sums.sums.sum().backward()
    for x in with_blank:
        assert x.grad.isfinite().all()
        assert not x.grad[2].any()
        assert x.grad[[0, 1, 3]].all(dim=1).all()


@pytest.mark.pure
def test_a_view_whose_twin_is_unreadable_is_no_negative():
    first, second = projections(3, seed=1), projections(3, seed=2)
    objective = SimCLR(temperature=TEMPERATURE)
    targets = torch.tensor([0, 1, 2, 0, UNREADABLE, 2])
    sums = objective.loss_sums(torch.cat([first, second]), targets)
    assert sums.counts.tolist() == [1, 0, 1, 1, 0, 1]
    alone = sums_of(first[[0, 2]], second[[0, 2]], [0, 2])
    torch.testing.assert_close(sums.sums[[0, 2, 3, 5]], alone.sums)


@pytest.mark.pure
def test_a_batch_of_nothing_but_unreadable_images():
    views = torch.zeros(4, 3, requires_grad=True)
    sums = SimCLR(temperature=TEMPERATURE).loss_sums(views, torch.full((4,), UNREADABLE))
    sums.sums.sum().backward()
    assert not sums.counts.any()
    assert views.grad.tolist() == [[0.0] * 3] * 4


@pytest.mark.pure
def test_labels_name_images():
    objective = SimCLR(temperature=1.0)
    labels = [ClassLabel.of([7]), ClassLabel.unknown(), ClassLabel.of([2**31 - 1])]
    targets = objective.targets(labels, (8, 8), torch.device("cpu"))
    assert targets.tolist() == [7, UNREADABLE, 2**31 - 1]
    assert targets.dtype == torch.int64
    assert isinstance(objective, Objective)
    assert not isinstance(objective, Task)


@pytest.mark.pure
@pytest.mark.parametrize("form", ["normalised", "plain"])
@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_the_balance_of_one_origin_is_the_symmetric_loss_itself(form, alpha):
    first, second = projections(4, seed=1), projections(4, seed=2)
    losses, _ = nt_xent(first, second, [0, 1, 2, 3])
    balance = LossBalance.start(alpha=alpha, normalised=form == "normalised", decay=0.9)
    for _ in range(2):  # the averages do not matter either
        loss = balanced_loss(
            sums_of(first, second, [0, 1, 2, 3]),
            torch.full((8,), int(Origin.HUMAN)),
            torch.ones(8).bool(),
            balance,
        )
        assert loss.total.item() == pytest.approx(sum(losses) / 8, rel=1e-5)
        assert loss.to_differentiate.item() == pytest.approx(sum(losses) / 8, rel=1e-5)
        balance = loss.balance


@pytest.mark.pure
@pytest.mark.parametrize(
    ("field", "value"), [("temperature", 0.0), ("temperature", -1.0), ("projection", 0)]
)
def test_wrong_settings_name_their_field(field, value):
    with pytest.raises(UserError, match=rf"simclr\.{field}"):
        SimCLRConfig(**{field: value})


# Two processes

# A case: for each rank, the images that it shows; of each a view in the first and the second half.
CASES = {
    "all readable": [[0, 1, 2], [3, 4, 5]],
    "one rank with an unreadable image": [[0, UNREADABLE, 2], [3, 4, 5]],
    "a rank without a readable image": [[0, 1, 2], [UNREADABLE] * 3],
    "one image on both ranks": [[0, 1, 2], [3, 1, 5]],
    "one image a rank": [[0], [1]],
    "nothing readable": [[UNREADABLE], [UNREADABLE]],
}
NUM_RANKS = 2


def halves(case, ranks):
    """Features of the first and the second views, and the images, of these ranks in order."""
    index = 10 * list(CASES).index(case)
    count = len(CASES[case][0])
    parts = [
        [projections(count, seed=index + 2 * rank + half) for rank in ranks] for half in range(2)
    ]
    return *map(torch.cat, parts), [image for rank in ranks for image in CASES[case][rank]]


def learned(case, ranks, *, wrap):
    """Loss and gradients of one step on the images of these ranks."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    first, second, images = halves(case, ranks)
    targets = torch.tensor([*images, *images])
    model = wrap(network)  # held: DDP does nothing once it is collected
    sums = SimCLR(temperature=TEMPERATURE).loss_sums(model(torch.cat([first, second])), targets)
    origins = torch.full((len(targets),), int(Origin.HUMAN))
    balance = LossBalance.start(alpha=1.0, normalised=True, decay=0.9)
    loss = balanced_loss(sums, origins, targets != UNREADABLE, balance)
    loss.to_differentiate.backward()
    return torch.cat([loss.total.detach()[None], *(p.grad.flatten() for p in network.parameters())])


def one_rank(rank):
    """All cases, so that processes are started once; and the gather by itself."""
    found = {case: learned(case, [rank], wrap=DistributedDataParallel) for case in CASES}
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0]]) * (rank + 1)
    rows = rows.T.contiguous().T.requires_grad_()  # not contiguous
    everyone = gathered(rows)
    # Each rank weighs each row by its own: the gradient is the sum of both ranks' weights.
    (everyone * torch.arange(4.0)[:, None] * 10**rank).sum().backward()
    return found | {"everyone": everyone.detach(), "gradient": rows.grad}


@pytest.fixture(scope="module")
def results():
    return on_ranks(one_rank, NUM_RANKS)


@pytest.mark.ranks
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_do_what_one_process_does_with_all_images(results, case):
    expected = learned(case, [0, 1], wrap=lambda network: network)
    assert expected.isfinite().all()
    assert bool(expected.any()) == (case != "nothing readable")
    for rank in range(NUM_RANKS):
        torch.testing.assert_close(results[rank][case], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.ranks
def test_rows_are_gathered_in_order_and_gradients_are_summed(results):
    for rank in range(NUM_RANKS):
        assert results[rank]["everyone"].tolist() == [[1, 2], [3, 4], [2, 4], [6, 8]]
        first = 2 * rank
        assert results[rank]["gradient"].tolist() == [[11 * first] * 2, [11 * (first + 1)] * 2]


@pytest.mark.pure
def test_one_process_gathers_its_own_rows():
    rows = projections(3)
    assert gathered(rows) is rows
