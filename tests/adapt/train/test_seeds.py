"""Seeds are a function of where training is."""

from psm_adapt.train.seeds import mixed_seed


def test_every_place_has_its_own_seed_and_always_the_same() -> None:
    seeds = {mixed_seed(seed, epoch, step) for seed in range(5) for epoch in range(5) for step in range(5)}
    assert len(seeds) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mixed_seed(2, 1, 0) != mixed_seed(2, 0, 1)
    # the value itself: training that goes on with another version must see the same data
    assert mixed_seed(2, 1, 0) == 3304656143886516455
