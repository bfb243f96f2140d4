"""Policy gradients against hand numbers (case E12 of the reference numbers), the definitions, and rlax.

Two results of E12 come without their inputs, which were reconstructed: an explained variance of .9705 (the
returns 1 2 3 4 and the values 1.1 1.9 3.2 3.7 give exactly that) and a clipped value loss of .32 against .125
(value .5, old value 0, target 1, clip .2). What all functions share is tried in
`test_reinforcement_properties.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.losses.advantages import explained_variance, group_advantages, normalize_advantages
from ch3_jax.losses.reinforcement import (
    a2c,
    clipped,
    clipped_surrogate,
    entropy_loss,
    grpo,
    kl_k1,
    kl_k3,
    policy_gradient,
    reinforce,
    value_loss,
)
from ch3_jax.losses.supervised import cross_entropy
from ch3_jax.probability import gaussian

LOGITS, ACTION = jnp.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), jnp.array([2, 0])
ADVANTAGE = jnp.array([1.0, -0.5])
RATIO, ZERO, ONE = jnp.array([1.3, 0.7, 1.0]), jnp.zeros(3), jnp.ones(3)


def test_e12_policy_gradient_and_entropy():
    # -log p: log(1 + e^-1 + e^-2) = .4076060 and log 3 = 1.0986123; (.4076060 - .5 1.0986123) / 2 = -.0708501
    loss = policy_gradient(-cross_entropy(LOGITS, ACTION), ADVANTAGE)
    assert float(jnp.mean(loss)) == pytest.approx(-0.0708501, abs=1e-6)
    # H = .8323956 of the first, log 3 of the second
    np.testing.assert_allclose(entropy_loss(LOGITS), [-0.8323956, -1.0986123], atol=1e-6)
    assert float(jnp.mean(entropy_loss(LOGITS))) == pytest.approx(-0.9655039, abs=1e-6)


def test_e12_clipped_surrogate():
    # 1.3 -> 1.2, times 1; .7 -> .8, times -1 (the smaller of -.7 and -.8); 2: -(1.2 - .8 + 2) / 3 = -.8
    loss = clipped_surrogate(jnp.log(RATIO), ZERO, jnp.array([1.0, -1.0, 2.0]))
    np.testing.assert_allclose(loss, [-1.2, 0.8, -2.0], atol=1e-6)
    assert float(jnp.mean(loss)) == pytest.approx(-0.8, abs=1e-6)


@pytest.mark.parametrize(
    ("ratio", "k1", "k3", "fraction"),
    [
        ([1.3, 0.7, 1.0], 0.0314369, 0.0314369, 0.6667),  # the mean ratio is 1, so that k1 = k3
        ([1.3, 0.9, 1.1], -0.0841046, 0.0158954, 0.3333),
    ],
)
def test_e12_divergences_and_clip_fraction(ratio, k1, k3, fraction):
    new = jnp.log(jnp.array(ratio))
    assert float(jnp.mean(kl_k1(ZERO, new))) == pytest.approx(k1, abs=1e-6)
    assert float(jnp.mean(kl_k3(ZERO, new))) == pytest.approx(k3, abs=1e-6)
    assert float(jnp.mean(clipped(new, ZERO))) == pytest.approx(fraction, abs=1e-4)


def test_e12_normalised_advantages():
    # mean .625, squared deviations 4.6875: deviation 1.25 by N - 1 = 3, 1.0825318 by N = 4
    a = jnp.array([1.0, -1.0, 2.0, 0.5])
    np.testing.assert_allclose(normalize_advantages(a, ddof=1), [0.3, -1.3, 1.1, -0.1], atol=1e-6)
    expected = [0.34641, -1.50111, 1.27017, -0.11547]
    np.testing.assert_allclose(normalize_advantages(a, ddof=0), expected, atol=1e-5)


def test_e12_explained_variance():
    # residuals -.1 .1 -.2 .3, squares .15 - 4 (.025)^2 = .1475 of 5: 1 - .0295
    v, g = jnp.array([1.1, 1.9, 3.2, 3.7]), jnp.array([1.0, 2.0, 3.0, 4.0])
    assert float(explained_variance(v, g)) == pytest.approx(0.9705, abs=1e-6)
    assert float(explained_variance(7 * jnp.ones(4), g)) == pytest.approx(0, abs=1e-6)
    assert float(explained_variance(-g, g)) == pytest.approx(-3, abs=1e-6)  # (2g) varies four times as much
    assert jnp.isnan(explained_variance(v, jnp.full(4, 0.1)))
    masked = explained_variance(jnp.append(v, jnp.nan), jnp.append(g, 1e9), mask=jnp.arange(5) < 4)
    assert float(masked) == pytest.approx(0.9705, abs=1e-6)


def test_e12_clipped_value_loss():
    # .5 (.5 - 1)^2 = .125; the value may move to .2 only: .5 (.2 - 1)^2 = .32
    v, target, old = (jnp.array([x]) for x in (0.5, 1.0, 0.0))
    assert float(value_loss(v, target)[0]) == pytest.approx(0.125)
    assert float(value_loss(v, target, old_v_tm1=old, clip=0.2)[0]) == pytest.approx(0.32)
    # Once outside, on the side of the target, the value has no gradient any more.
    gradient = jax.grad(lambda v: value_loss(v, target, old_v_tm1=old, clip=0.2)[0])
    np.testing.assert_array_equal(gradient(v), [0.0])


def test_e12_gaussian_policy():
    a, mean, log_std = jnp.array([0.3, -0.2]), jnp.zeros(2), jnp.array([0.0, -0.5])
    assert float(gaussian.log_prob(mean, log_std, a)) == pytest.approx(-1.4372427, abs=1e-6)
    assert float(gaussian.entropy(log_std)) == pytest.approx(2.3378770, abs=1e-6)


def test_e12_group_advantages():
    won = jnp.array([1.0, 0.0, 0.0, 1.0])
    np.testing.assert_allclose(group_advantages(won, ddof=0), [1, -1, -1, 1], atol=3e-6)
    # .5 / (.5773503 + 1e-6)
    expected = 0.866024 * np.array([1, -1, -1, 1])
    np.testing.assert_allclose(group_advantages(won, ddof=1), expected, atol=1e-6)
    # .1 + .1 + .1 is not .3 in float32: without the differences first this would be 7e-3.
    np.testing.assert_array_equal(group_advantages(jnp.full((2, 3), 0.1), ddof=1), np.zeros((2, 3)))
    groups = jnp.stack([won, 100 + 10 * won])
    np.testing.assert_allclose(group_advantages(groups, ddof=0), [[1, -1, -1, 1]] * 2, atol=1e-5)


def test_equal_advantages_are_none():
    np.testing.assert_array_equal(normalize_advantages(jnp.full(3, 0.1), ddof=1), np.zeros(3))


def test_a_mask_is_a_subset():
    a, mask = jnp.array([9e9, 1.0, -1.0, jnp.nan, 2.0, 0.5]), jnp.array([0, 1, 1, 0, 1, 1], bool)
    out = normalize_advantages(a, ddof=1, mask=mask)
    np.testing.assert_allclose(out[mask], normalize_advantages(a[mask], ddof=1), rtol=1e-6)
    assert jnp.isnan(normalize_advantages(a, ddof=1, mask=jnp.arange(6) == 1)).all()
    assert jnp.isnan(normalize_advantages(a, ddof=0, mask=jnp.zeros(6, bool))).all()


def test_the_scale_of_normalised_advantages_is_one():
    a = jnp.asarray(np.random.default_rng(0).normal(5, 3, (4, 25)), jnp.float32)
    for ddof in (0, 1):
        out = np.asarray(normalize_advantages(a, ddof=ddof), np.float64)
        assert out.mean() == pytest.approx(0, abs=1e-6)
        assert out.std(ddof=ddof) == pytest.approx(1, abs=1e-6)


def test_policy_gradient_is_the_gradient_of_the_expected_reward():
    """E[grad log p(a) R(a)], summed over all actions with their probabilities, against grad sum p R."""
    logits, reward = jnp.array([0.3, -0.4, 1.0]), jnp.array([1.0, 2.0, -3.0])
    p = jax.nn.softmax(logits)

    def sampled(z, baseline):
        log_prob = jax.nn.log_softmax(z)
        return jnp.sum(p * reinforce(log_prob, reward, jnp.full(3, baseline)))

    exact = jax.grad(lambda z: -jnp.sum(jax.nn.softmax(z) * reward))(logits)
    for baseline in (0.0, 5.0):
        np.testing.assert_allclose(jax.grad(sampled)(logits, baseline), exact, atol=1e-6)


def test_entropy_of_a_forbidden_action():
    # -inf: no probability, no entropy, no gradient and no NaN.
    logits = jnp.array([[0.0, 0.0, -jnp.inf]])
    assert float(entropy_loss(logits)[0]) == pytest.approx(-np.log(2), abs=1e-6)
    np.testing.assert_allclose(jax.grad(lambda z: entropy_loss(z)[0])(logits), np.zeros((1, 3)), atol=1e-7)


def test_ppo_starts_as_the_policy_gradient_and_ends_at_the_clip():
    log_prob, advantage = jnp.array([-1.0, -2.0, -0.5]), jnp.array([1.0, -1.0, 2.0])
    gradient = jax.grad(lambda x, old: jnp.sum(clipped_surrogate(x, old, advantage)))
    # At a ratio of 1 the gradients agree.
    np.testing.assert_allclose(gradient(log_prob, log_prob), -advantage, rtol=1e-6)
    # Too far in the direction of the advantage: none. Too far against it: the way back stays open.
    there = gradient(log_prob + 0.5 * jnp.sign(advantage), log_prob)
    back = gradient(log_prob - 0.5 * jnp.sign(advantage), log_prob)
    np.testing.assert_array_equal(there, np.zeros(3))
    assert (np.abs(back) > 0.3).all()


def test_clip_higher():
    log_prob = jnp.log(jnp.array([1.25, 1.35, 0.7]))
    loss = clipped_surrogate(log_prob, ZERO, ONE, clip=0.2, clip_high=0.28)
    np.testing.assert_allclose(loss, [-1.25, -1.28, -0.7], atol=1e-6)
    np.testing.assert_array_equal(clipped(log_prob, ZERO, clip=0.2, clip_high=0.28), [0, 1, 1])
    np.testing.assert_allclose(
        grpo(log_prob, ZERO, jnp.array(1.0), clip=0.2, clip_high=0.28), loss, atol=1e-6
    )


def test_grpo_by_hand():
    # ratio 1.3 -> 1.2 and 1, advantage .5; reference = 2 p: 2 - 1 - log 2 = .3068528, times .1
    log_prob = jnp.log(jnp.array([1.3, 1.0]))
    reference = log_prob + jnp.log(2.0)
    loss = grpo(log_prob, jnp.zeros(2), jnp.array(0.5), reference_log_prob_tm1=reference, kl_cost=0.1)
    np.testing.assert_allclose(loss, [-0.6 + 0.0306853, -0.5 + 0.0306853], atol=1e-6)


def test_k1_and_k3_estimate_one_divergence():
    p, q = jnp.array([0.5, 0.3, 0.2]), jnp.array([0.3, 0.3, 0.4])
    exact = float(jnp.sum(p * jnp.log(p / q)))
    for estimate in (kl_k1, kl_k3):
        assert float(jnp.sum(p * estimate(jnp.log(p), jnp.log(q)))) == pytest.approx(exact, abs=1e-6)
    assert (kl_k3(jnp.log(p), jnp.log(q)) >= 0).all()


def test_k3_of_nearly_equal_policies_is_no_rounding_error():
    # x - 1 - log x = d^2 / 2 at x = e^d: 5e-9 at 1e-4, where exp(d) - 1 - d in float32 gives 0 or 1e-7.
    d = jnp.array([1e-4])
    assert float(kl_k3(jnp.zeros(1), d)[0]) == pytest.approx(5e-9, rel=0.01)


def test_a2c_is_the_sum_of_its_parts():
    log_prob, entropy, v, g = (jnp.array([x, 2 * x]) for x in (-0.5, 1.1, 0.3, 0.7))
    parts = policy_gradient(log_prob, g - v) + 0.5 * value_loss(v, g) - 0.01 * entropy
    np.testing.assert_allclose(a2c(log_prob, entropy, v, g), parts, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: clipped_surrogate(ZERO, ZERO, ONE, clip=0.0), r"`clip` is outside(.|\n)*\(0, 1\]"),
        (lambda: clipped_surrogate(ZERO, ZERO, ONE, clip=20), "`clip` is outside"),
        (lambda: clipped_surrogate(ZERO, ZERO, ONE, clip_high=-0.1), "`clip_high` is outside"),
        (lambda: clipped(ZERO, ZERO, clip=-0.2), "`clip` is outside"),
        (lambda: value_loss(ZERO, ONE, clip=0.2), "`old_v_tm1` and `clip` together"),
        (lambda: value_loss(ZERO, ONE, old_v_tm1=ZERO), "`old_v_tm1` and `clip` together"),
        (lambda: value_loss(ZERO, ONE, old_v_tm1=ZERO, clip=0.0), "`clip` is outside"),
        (lambda: a2c(ZERO, ZERO, ZERO, ZERO, value_cost=-1.0), "`value_cost` is outside"),
        (lambda: a2c(ZERO, ZERO, ZERO, ZERO, entropy_cost=-1.0), "`entropy_cost` is outside"),
        (lambda: grpo(ZERO, ZERO, jnp.array(1.0), kl_cost=0.1), "`reference_log_prob_tm1` and a `kl_cost`"),
        (
            lambda: grpo(ZERO, ZERO, jnp.array(1.0), reference_log_prob_tm1=ZERO),
            "`reference_log_prob_tm1` and a `kl_cost`",
        ),
        (lambda: grpo(ZERO, ZERO, jnp.array(1.0), kl_cost=-1.0), "`kl_cost` is outside"),
        (lambda: normalize_advantages(ONE, ddof=2), "CleanRL(.|\n)*purejaxrl"),
        (lambda: normalize_advantages(ONE[:1], ddof=1), "too few elements(.|\n)*vmap"),
        (lambda: normalize_advantages(ONE, ddof=1, eps=-1.0), "`eps` is outside"),
        (lambda: group_advantages(ONE[:1], ddof=0), "one episode"),
        (lambda: group_advantages(ONE, ddof=1, eps=0.0), "`eps` is outside"),
        (lambda: group_advantages(jnp.array(1.0), ddof=1), "has shape"),
    ],
)
def test_bad_numbers(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(("wide", "atol"), [(False, 1e-6), (True, 1e-12)])
def test_rlax_on_random_steps(wide, atol):
    rlax = pytest.importorskip("rlax", reason="rlax is not installed: the numbers of E12 stand for it")
    rng = np.random.default_rng(0)
    with jax.enable_x64(wide), jax.numpy_rank_promotion("allow"):
        dtype = jnp.float64 if wide else jnp.float32
        logits, advantage = (jnp.asarray(rng.normal(size=shape), dtype) for shape in ((20, 5), 20))
        old, action, weight = jnp.asarray(rng.normal(size=20), dtype), jnp.arange(20) % 5, jnp.ones(20, dtype)

        def log_prob(z):
            return -cross_entropy(z, action)

        pairs = [
            (
                lambda z: jnp.mean(policy_gradient(log_prob(z), advantage)),
                lambda z: rlax.policy_gradient_loss(z, action, advantage, weight),
            ),
            (lambda z: jnp.mean(entropy_loss(z)), lambda z: rlax.entropy_loss(z, weight)),
            (
                lambda z: jnp.mean(clipped_surrogate(log_prob(z), old, advantage)),
                lambda z: rlax.clipped_surrogate_pg_loss(jnp.exp(log_prob(z) - old), advantage, 0.2),
            ),
        ]
        for ours, theirs in pairs:
            for f, g in ((ours, theirs), (jax.grad(ours), jax.grad(theirs))):
                np.testing.assert_allclose(f(logits), g(logits), atol=atol, rtol=atol)
