"""Critics and the actors that follow them against hand numbers, the definitions, and rlax.

The frozen numbers were computed with rlax 0.1.9 on jax 0.10.2 in float64, from the inputs below, by
`q_learning` and `double_q_learning` under `vmap` and `huber_loss`. What all functions share is tried in
`test_reinforcement_properties.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.losses import offline, value_learning
from ch3_jax.losses.value_learning import double_dqn, dqn, td_loss

Q = [[-1.29, -1.84, -0.24, -1.27], [0.27, 0.16, -0.19, -2.52], [-0.54, -0.05, 0.11, -1.53]]
Q += [[-0.48, -0.98, -0.81, 1.06], [-0.81, -0.03, 0.88, -0.58], [-0.11, 0.11, 0.06, -1.23]]
TARGET = [[0.08, 1.36, -1.55, 0.86], [0.12, -0.64, 2.0, 0.76], [-1.2, 0.07, 0.58, -0.19]]
TARGET += [[0.68, -0.07, 0.67, 1.44], [-0.68, 0.2, -0.46, 0.13], [-1.19, -0.58, -0.2, 0.9]]
ONLINE = [[1.15, -1.32, -0.79, 0.65], [-1.99, -0.46, -0.1, 1.26], [0.69, -0.33, -0.37, -0.25]]
ONLINE += [[1.52, -0.43, -0.3, 0.35], [-0.12, -0.2, -1.11, -0.01], [-0.44, 1.17, 0.65, -0.02]]
ACTION = jnp.array([2, 1, 3, 2, 1, 1])
R = [0.0, 0.3, -0.27, -0.89, -0.45, -0.99]
DISCOUNT = [0.9, 0.9, 0.0, 0.9, 0.9, 0.9]
ONE = jnp.ones(1)
TWO_CRITICS = jnp.array([[4.0, 6.0]])


@pytest.mark.parametrize(("wide", "atol"), [(False, 1e-6), (True, 1e-9)])
def test_numbers_of_rlax(wide, atol):
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        q, target, online, r, d = (jnp.array(x, dtype) for x in (Q, TARGET, ONLINE, R, DISCOUNT))
        single = dqn(q, ACTION, r, d, target)
        np.testing.assert_allclose(single, [1.071648, 1.8818, 0.7938, 0.739328, 0.0288, 0.04205], atol=atol)
        double = double_dqn(q, ACTION, r, d, target, online)
        expected = [0.048672, 0.339488, 0.7938, 0.141512, 0.0459045, 1.315442]
        np.testing.assert_allclose(double, expected, atol=atol)
        huber = double_dqn(q, ACTION, r, d, target, online, huber=1.0)
        expected = [0.048672, 0.339488, 0.76, 0.141512, 0.0459045, 1.122]
        np.testing.assert_allclose(huber, expected, atol=atol)


def test_dqn_by_hand():
    # y = 1 + .5 max(2, 5) = 3.5, Q = 1.5: .5 2^2 = 2; double: the online network prefers the first, y = 2.
    q, q_next = jnp.array([[1.5, 9.0]]), jnp.array([[2.0, 5.0]])
    action = jnp.array([0])
    assert dqn(q, action, ONE, 0.5 * ONE, q_next).tolist() == [2.0]
    assert double_dqn(q, action, ONE, 0.5 * ONE, q_next, -q_next).tolist() == [0.125]
    # A termination: y = 1, whatever the target network says.
    assert dqn(q, action, ONE, 0 * ONE, q_next).tolist() == [0.125]


def test_double_learning_agrees_where_both_networks_prefer_the_same():
    q, target, r, d = (jnp.array(x) for x in (Q, TARGET, R, DISCOUNT))
    same = double_dqn(q, ACTION, r, d, target, target)
    np.testing.assert_array_equal(same, dqn(q, ACTION, r, d, target))


def test_only_the_action_taken_learns():
    q, target, r, d = (jnp.array(x) for x in (Q, TARGET, R, DISCOUNT))
    gradient = jax.grad(lambda q: jnp.sum(dqn(q, ACTION, r, d, target)))(q)
    taken = np.arange(4) == np.asarray(ACTION)[:, None]
    assert (np.asarray(gradient)[~taken] == 0).all()
    assert (np.asarray(gradient)[taken] != 0).all()


def test_an_action_that_does_not_exist():
    q, one = jnp.zeros((1, 2)), ONE
    for action in (2, -1):
        with pytest.raises(ValueError, match="`a_tm1` lies outside"):
            dqn(q, jnp.array([action]), one, one, q)
        assert jnp.isnan(jax.jit(dqn)(q, jnp.array([action]), one, one, q)).all()


def test_huber_is_half_the_square_near_and_a_line_far():
    q, target = jnp.zeros(4), jnp.array([0.5, -1.0, 3.0, -9.0])
    # .5 .25; .5; 1 (3 - .5); 1 (9 - .5)
    np.testing.assert_allclose(td_loss(q, target, huber=1.0), [0.125, 0.5, 2.5, 8.5])
    gradient = jax.grad(lambda q: jnp.sum(td_loss(q, target, huber=1.0)))(q)
    np.testing.assert_allclose(gradient, [-0.5, 1, -1, 1])
    np.testing.assert_allclose(td_loss(q, target, huber=100.0), td_loss(q, target), rtol=1e-6)


def test_critics_by_hand():
    q = jnp.array([[0.0, 1.0]])
    # SAC: y = 1 + .5 (min(4, 6) - 2 (-1)) = 4: .5 16, .5 9
    out = value_learning.sac_critics(q, ONE, 0.5 * ONE, TWO_CRITICS, -ONE, jnp.array(2.0))
    np.testing.assert_allclose(out, [[8.0, 4.5]])
    # TD3: y = 1 + .5 4 = 3; IQL: y = 1 + .5 2 = 2
    np.testing.assert_allclose(value_learning.td3_critics(q, ONE, 0.5 * ONE, TWO_CRITICS), [[4.5, 2.0]])
    np.testing.assert_allclose(offline.iql_critics(q, ONE, 0.5 * ONE, 2 * ONE), [[2.0, 0.5]])


def test_a_soft_critic_without_temperature_is_td3s():
    q, q_next = jnp.array(Q)[:, :2], jnp.array(TARGET)[:, :2]
    r, d = jnp.array(R), jnp.array(DISCOUNT)
    soft = value_learning.sac_critics(q, r, d, q_next, 5 * r, jnp.array(0.0))
    np.testing.assert_allclose(soft, value_learning.td3_critics(q, r, d, q_next), rtol=1e-6)


def test_the_soft_actor_follows_the_smaller_critic():
    q, log_prob, alpha = jnp.array([[3.0, 2.0]]), jnp.array([-1.0]), jnp.array(0.5)
    out, (to_q, to_log_prob) = jax.value_and_grad(
        lambda q, p: value_learning.sac_actor(q, p, alpha)[0], argnums=(0, 1)
    )(q, log_prob)
    assert float(out) == -2.5  # .5 (-1) - 2
    np.testing.assert_array_equal(to_q, [[0, -1]])
    np.testing.assert_array_equal(to_log_prob, [0.5])


def test_the_temperature_rises_below_the_target_entropy():
    log_temperature = jnp.log(jnp.array(2.0))

    def gradient(log_prob, form):
        def loss(x):
            return value_learning.sac_temperature(x, log_prob, target_entropy=-1.0, form=form)[0]

        return float(jax.grad(loss)(log_temperature))

    # Entropy -1.5 is below -1: the gradient is negative, descent raises it. -alpha (1.5 - 1) = -1; -.5.
    assert gradient(jnp.array([1.5]), "temperature") == pytest.approx(-1.0)
    assert gradient(jnp.array([1.5]), "log_temperature") == pytest.approx(-0.5)
    assert gradient(jnp.array([0.5]), "temperature") == pytest.approx(1.0)


def test_smoothed_actions_stay_near_and_inside():
    action = jnp.tile(jnp.array([[0.0, 0.9]]), (2000, 1))
    out = np.asarray(value_learning.td3_target_action(jax.random.key(0), action, sigma=0.2, noise_clip=0.5))
    assert np.abs(out - action).max() <= 0.5 + 1e-6
    assert out.max() == 1
    # A normal cut at 2.5 deviations has .2 .974 or so left; clipping instead keeps a little more.
    assert out[:, 0].std() == pytest.approx(0.2, rel=0.05)
    assert out[:, 0].mean() == pytest.approx(0, abs=0.015)
    still = value_learning.td3_target_action(jax.random.key(0), action[:1], sigma=0.0)
    np.testing.assert_array_equal(still, action[:1])


def test_the_deterministic_actor_climbs_the_first_critic():
    # Q_1 = -(a - 2)^2, Q_2 = anything: dL/da = -dQ_1/da = 2 (a - 2)
    def loss(a):
        return value_learning.td3_actor(jnp.stack([-jnp.square(a - 2), 100 * a], axis=-1))[0]

    np.testing.assert_allclose(jax.grad(loss)(jnp.array([0.5])), [-3.0])


def test_awr_by_hand():
    # exp(0) = 1, exp(1 / .5) = 7.389 -> 3 at most, exp(-1 / .5) = .1353
    log_prob, advantage = jnp.array([-1.0, -1.0, -2.0]), jnp.array([0.0, 1.0, -1.0])
    out = offline.awr(log_prob, advantage, temperature=0.5, max_weight=3.0)
    np.testing.assert_allclose(out, [1.0, 3.0, 0.2706706], rtol=1e-6)
    # exp overflows float32 at 88.7, and the weight is the largest all the same; so is the gradient.
    huge = jax.value_and_grad(lambda p: offline.awr(p, 1e4 * ONE, temperature=1.0, max_weight=20.0)[0])
    value, gradient = huge(-ONE)
    assert (float(value), float(gradient[0])) == (20.0, -20.0)


def test_at_a_high_temperature_awr_is_cloning():
    log_prob, advantage = jnp.array([-1.0, -3.0]), jnp.array([5.0, -5.0])
    out = offline.awr(log_prob, advantage, temperature=1e7, max_weight=20.0)
    np.testing.assert_allclose(out, -log_prob, rtol=1e-5)


@pytest.mark.parametrize(("expectile", "best"), [(0.5, 2.0), (0.9, 3.6), (0.1, 0.4)])
def test_the_expectile_that_minimises(expectile, best):
    # Of 0 and 4, the tau-expectile is 4 tau: tau (4 - v) = (1 - tau) v.
    q = jnp.array([0.0, 4.0])
    gradient = jax.grad(lambda v: jnp.sum(offline.iql_value(jnp.full(2, v), q, expectile=expectile)))
    assert float(gradient(best)) == pytest.approx(0, abs=1e-5)
    assert float(gradient(best + 0.1)) > 0.05
    assert float(gradient(best - 0.1)) < -0.05


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: td_loss(ONE, ONE, huber=0.0), "`huber` is outside"),
        (lambda: offline.iql_value(ONE, ONE, expectile=1.0), r"`expectile` is outside(.|\n)*\(0, 1\)"),
        (lambda: offline.awr(ONE, ONE, temperature=0.0, max_weight=1.0), "`temperature` is outside"),
        (lambda: offline.awr(ONE, ONE, temperature=1.0, max_weight=0.0), "`max_weight` is outside"),
        (
            lambda: value_learning.sac_temperature(jnp.array(0.0), ONE, target_entropy=-1.0, form="alpha"),
            "'temperature' or 'log_temperature'",
        ),
        (
            lambda: value_learning.td3_target_action(jax.random.key(0), jnp.zeros((1, 1)), sigma=-1.0),
            "`sigma` is outside",
        ),
        (
            lambda: value_learning.td3_target_action(jax.random.key(0), jnp.zeros((1, 1)), noise_clip=0.0),
            "`noise_clip` is outside",
        ),
        (
            lambda: value_learning.td3_target_action(jax.random.key(0), jnp.zeros((1, 1)), limit=0.0),
            "`limit` is outside",
        ),
        (
            lambda: value_learning.td3_critics(ONE, ONE, ONE, ONE),
            r"\(1,\)(.|\n)*one critic alone is \(T, 1\)",
        ),
    ],
)
def test_bad_numbers(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(("wide", "atol"), [(False, 1e-6), (True, 1e-12)])
def test_rlax_on_random_transitions(wide, atol):
    rlax = pytest.importorskip("rlax", reason="rlax is not installed: the frozen numbers stand for it")
    rng = np.random.default_rng(0)
    with jax.enable_x64(wide), jax.numpy_rank_promotion("allow"):
        dtype = jnp.float64 if wide else jnp.float32
        q, target, online = (jnp.asarray(rng.normal(size=(30, 4)), dtype) for _ in range(3))
        r, d = jnp.asarray(rng.normal(size=30), dtype), jnp.asarray(0.9 * (rng.random(30) > 0.2), dtype)
        action = jnp.asarray(rng.integers(0, 4, 30))
        pairs = [
            (
                lambda q: dqn(q, action, r, d, target),
                lambda q: rlax.l2_loss(jax.vmap(rlax.q_learning)(q, action, r, d, target)),
            ),
            (
                lambda q: double_dqn(q, action, r, d, target, online, huber=0.7),
                lambda q: rlax.huber_loss(
                    jax.vmap(rlax.double_q_learning)(q, action, r, d, target, online), 0.7
                ),
            ),
        ]
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours(q), theirs(q), atol=atol, rtol=atol)
            gradients = (jax.grad(lambda q, f=f: jnp.sum(f(q)))(q) for f in (ours, theirs))
            np.testing.assert_allclose(*gradients, atol=atol, rtol=atol)
        # The deterministic policy gradient: rlax's loss of an action has the gradient that ours has.
        a, slope = jnp.asarray(rng.normal(size=3), dtype), jnp.asarray(rng.normal(size=3), dtype)
        ours = jax.grad(lambda a: value_learning.td3_actor(jnp.sum(slope * a)[None, None])[0])(a)
        np.testing.assert_allclose(ours, jax.grad(lambda a: jnp.sum(rlax.dpg_loss(a, slope)))(a), atol=atol)
