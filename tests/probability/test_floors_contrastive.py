"""The floor of InfoNCE: strangers drawn by the million, scored with the true density ratio."""

import numpy as np
import pytest

from ch3_jax.probability.floors_contrastive import contrastive_floor


@pytest.mark.parametrize(("std", "offsets"), [(0.3, (0.0,)), (0.3, (-1.0, 1.0)), (0.05, (0.0,))])
@pytest.mark.parametrize("negatives", [1, 63])
def test_the_true_ratio_among_strangers(std, offsets, negatives):
    random = np.random.default_rng(0)
    width, draws = 6.0, 20_000

    def ratio(a):
        terms = (np.exp(-0.5 * ((a - o) / std) ** 2) for o in offsets)
        return width * sum(terms) / (len(offsets) * std * np.sqrt(2 * np.pi))

    own = ratio(random.choice(offsets, draws) + std * random.normal(size=draws))
    strangers = ratio((random.random((draws, negatives)) - 0.5) * width).sum(1)
    losses = np.log1p(strangers / own)
    error = 4 * losses.std() / np.sqrt(draws)
    assert contrastive_floor(std, offsets, width, negatives) == pytest.approx(losses.mean(), abs=error)


def test_more_strangers_are_harder_by_their_logarithm():
    few, many = (contrastive_floor(0.3, (0.0,), 6.0, n) for n in (1_000, 8_000))
    assert many - few == pytest.approx(np.log(8), abs=0.01)
