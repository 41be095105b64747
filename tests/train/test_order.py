import pytest
import torch

from sfumato.train.order import Order, batch_seeds


def test_an_epoch_holds_every_item_once():
    order = Order(count=10, batch_size=5, seed=3)
    epochs = [torch.cat([order.indices(2 * epoch), order.indices(2 * epoch + 1)]) for epoch in range(3)]
    for epoch in epochs:
        assert epoch.sort().values.tolist() == list(range(10))
    assert epochs[0].tolist() != epochs[1].tolist()


def test_batches_run_on_across_epochs_and_may_exceed_the_set():
    order = Order(count=3, batch_size=7)
    seen = torch.cat([order.indices(0), order.indices(1), order.indices(2)])
    assert torch.bincount(seen).tolist() == [7, 7, 7]


def test_a_batch_does_not_depend_on_those_before_it():
    fresh, used = Order(count=100, batch_size=8, seed=1), Order(count=100, batch_size=8, seed=1)
    for batch in range(200):
        used.indices(batch)
    assert torch.equal(fresh.indices(200), used.indices(200))


def test_seeds_differ_by_batch_image_and_run():
    seeds = [batch_seeds(run, batch, 4) for run in (0, 1) for batch in (0, 1)]
    assert len({seed for row in seeds for seed in row}) == 16
    assert batch_seeds(0, 1, 4) == seeds[1]


def test_nothing_to_order_is_refused():
    with pytest.raises(ValueError, match="at least one item"):
        Order(count=0, batch_size=4)
