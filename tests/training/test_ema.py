"""Case E9: Diffusion Policy's warm-up of the decay, and what an average is."""

import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.training.ema import average, constant_decay, power_decay

E9 = {0: 0, 1: 0, 2: 0.40539644, 3: 0.56130866, 10: 0.82217206, 100: 0.96837722, 1_000: 0.99437659}
E9 |= {10_000: 0.999, 100_000: 0.99982217, 1_000_000: 0.9999}


@pytest.mark.parametrize(("step", "decay"), E9.items())
def test_e9(step, decay):
    assert float(power_decay()(step)) == pytest.approx(decay, abs=2e-7)


def test_against_diffusers():
    training_utils = pytest.importorskip("diffusers.training_utils")
    torch = pytest.importorskip("torch")
    peer = training_utils.EMAModel(
        [torch.zeros(1)], use_ema_warmup=True, inv_gamma=1.0, power=0.75, decay=0.9999
    )
    for step in (0, 1, 2, 17, 5_000):
        assert float(power_decay()(step)) == pytest.approx(peer.get_decay(step), abs=1e-6)


def test_average_by_hand():
    # 0.9 * 1 + 0.1 * 3 = 1.2
    np.testing.assert_allclose(
        average({"w": jnp.ones(1)}, {"w": jnp.full(1, 3.0)}, constant_decay(0.9)(0))["w"], 1.2
    )


def test_decay_zero_copies_bit_for_bit():
    params = jnp.array([0.1, 1e-30, 3e7])
    np.testing.assert_array_equal(average(jnp.zeros(3), params, jnp.float32(0)), params)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_is_refused(decay):
    with pytest.raises(ValueError, match="expected a number in"):
        constant_decay(decay)
