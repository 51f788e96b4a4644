"""The order of samples depends on seed and epoch alone."""

from __future__ import annotations

from analog_lora_cli.training.sampling import EpochSampler

LENGTHS = [(7 * index) % 23 + 1 for index in range(50)]


def order(epoch: int, strategy: str = "random", seed: int = 3) -> list[int]:
    sampler = EpochSampler(len(LENGTHS), strategy, step_samples=8, seed=seed, lengths=LENGTHS)
    list(sampler)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_order_for_each_epoch_and_seed() -> None:
    assert order(2) == order(2)
    assert order(2) != order(1) != order(1, seed=4)
    assert sorted(order(2)) == list(range(50))
    assert order(2, "sequential") == list(range(50))


def test_groups_are_the_samples_of_a_step_and_the_incomplete_one_comes_last() -> None:
    grouped = order(0, "group_by_length")
    assert sorted(grouped) == list(range(50))
    steps = [grouped[start : start + 8] for start in range(0, 50, 8)]
    assert [len(step) for step in steps] == [8] * 6 + [2]
    spread = [max(LENGTHS[i] for i in step) - min(LENGTHS[i] for i in step) for step in steps]
    assert max(spread) <= 5, "a random batch of 8 spans about 18 of the 22 lengths"
    means = [sum(LENGTHS[i] for i in step) / len(step) for step in steps[:-1]]
    assert means != sorted(means, reverse=True), "the batches themselves are in no order"
