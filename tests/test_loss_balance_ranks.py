"""Two processes with parts of a batch do what one process with all of it does."""

import math

import pytest
import torch
from ranks import on_ranks
from torch.nn.parallel import DistributedDataParallel

from ray_st.data.labels import Origin
from ray_st.tasks.task import LossSums
from ray_st.training.loss_balance import LossBalance, balanced_loss

pytestmark = pytest.mark.ranks

H, P = int(Origin.HUMAN), int(Origin.PSEUDO)

# A case: for each rank, its images as (origin, boxes, is valid).
CASES = {
    "even halves": [[(H, 2, 1), (H, 0, 1), (P, 3, 1)], [(H, 5, 1), (P, 1, 1), (P, 0, 1)]],
    "uneven halves": [[(H, 2, 1)], [(H, 1, 1), (P, 4, 1), (P, 1, 1), (H, 7, 1), (P, 2, 1)]],
    "a rank without a pseudo box": [[(H, 2, 1), (P, 6, 1)], [(H, 1, 1), (P, 0, 1)]],
    "a rank without a pseudo image": [[(H, 2, 1), (P, 6, 1)], [(H, 1, 1), (H, 3, 1)]],
    "a rank without a human image": [[(P, 2, 1), (P, 6, 1)], [(H, 1, 1), (P, 3, 1)]],
    "a rank whose images are all unreadable": [[(H, 2, 1), (P, 6, 1)], [(H, 1, 0), (P, 3, 0)]],
    "no pseudo image anywhere": [[(H, 2, 1)], [(H, 1, 1), (P, 3, 0)]],
    "no human image anywhere": [[(P, 2, 1)], [(P, 1, 1), (H, 3, 0)]],
}
FORMS = ["normalised", "plain"]
NUM_STEPS, NUM_RANKS = 3, 2


def features(case, step):
    """Features of all images of all ranks, in order."""
    count = sum(map(len, CASES[case]))
    generator = torch.Generator().manual_seed(100 * list(CASES).index(case) + step)
    return torch.randn(count, 3, generator=generator)


def trained(case, form, ranks, *, wrap):
    """Three steps on the images of these ranks: losses, averages and gradients of each."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(3, 2)
    model = wrap(linear)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)
    balance = LossBalance.start(alpha=2.0, normalised=form == "normalised", decay=0.8)
    first = sum(len(CASES[case][rank]) for rank in range(ranks[0]))
    origins, counts, is_valid = (
        torch.tensor([image[i] for rank in ranks for image in CASES[case][rank]]) for i in range(3)
    )
    found = []
    for step in range(NUM_STEPS):
        outputs = model(features(case, step)[first : first + len(origins)])
        # What is invalid costs NaN, and must not matter.
        cost = outputs.square().sum(dim=1) + torch.where(is_valid.bool(), 0.0, math.nan)
        sums = LossSums(sums=cost, counts=counts, parts={}, count_offset=1.0)
        loss = balanced_loss(sums, origins, is_valid.bool(), balance)
        optimizer.zero_grad()
        loss.to_differentiate.backward()
        optimizer.step()
        balance = loss.balance
        gradients = [p.grad.flatten() for p in linear.parameters()]
        figures = [loss.total[None], loss.losses, balance.totals, balance.weights]
        found.append(torch.cat([*figures, *gradients]).detach())
    return torch.stack(found)


def one_rank(rank):
    """All cases, so that processes are started once."""
    return {
        (case, form): trained(case, form, [rank], wrap=DistributedDataParallel)
        for case in CASES
        for form in FORMS
    }


@pytest.fixture(scope="module")
def results():
    return on_ranks(one_rank, NUM_RANKS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_ranks_together_do_what_one_process_does(results, case, form):
    expected = trained(case, form, [0, 1], wrap=lambda model: model)
    assert expected.isfinite().all()
    for rank in range(NUM_RANKS):
        torch.testing.assert_close(results[rank][case, form], expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(results[0][case, form], results[1][case, form], rtol=0, atol=0)
