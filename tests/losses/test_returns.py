"""Returns against their definitions summed forwards, hand numbers, and rlax.

The frozen numbers were computed with rlax 0.1.9 on jax 0.10.2 in float64, from the inputs below, by
`discounted_returns`, `lambda_returns`, `n_step_bootstrapped_returns`,
`truncated_generalized_advantage_estimation` and `vtrace_td_error_and_advantage`. Where rlax is installed, the
last test compares with it directly.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.losses.returns import discounted_returns, gae, lambda_returns, n_step_returns, vtrace

R = np.array([0.0, 0.3, -0.27, -0.89, -0.45, -0.99])
V = np.array([0.06, 1.34, -0.49, -0.62, 0.49, 0.36, 0.11])
D = np.array([0.9, 0.9, 0.0, 0.9, 0.9, 0.9])
RHO = np.array([0.63, 0.99, 1.42, 0.51, 0.8, 0.39])

# A stream of 9 with everything in it: three steps that are truncated, three that terminate, three that the
# end of the stream cuts. Where another episode follows, the value reached is not that of the next step.
T = 9
CUT = np.arange(T) == 2
STREAM = {
    "r_t": np.array([0.0, 0.3, -0.27, -0.89, -0.45, -0.99, 0.5, 1.2, -0.3]),
    "discount_t": np.array([0.9, 0.8, 0.9, 0.9, 0.7, 0.0, 0.9, 0.9, 0.9]),
    "v_t": np.array([1.34, 0.7, -0.62, 0.49, -1.5, 0.11, 0.4, -0.8, 0.6]),
}
FLAGS = jnp.asarray(CUT)
ARRAYS = {name: jnp.asarray(x, jnp.float32) for name, x in STREAM.items()}
# Within an episode a step begins where the one before ended.
BEGIN = np.array([0.06, 1.34, 0.7, 0.3, 0.49, -1.5, -0.2, 0.4, -0.8])
RATIO = np.array([0.63, 0.99, 1.42, 0.51, 0.8, 1.39, 0.2, 1.1, 0.7])
LAMBDA = 0.8


def horizon_of(t, discount, cut):
    """The last step that belongs to what follows step t."""
    while t < T - 1 and not cut[t] and discount[t] != 0:
        t += 1
    return t


def n_step_forward(t, n, r, discount, v, cut):
    """Its definition, as a sum: rewards to the n-th or to the end, and what the state reached is worth."""
    last = min(t + n - 1, horizon_of(t, discount, cut))
    total, weight = 0.0, 1.0
    for i in range(t, last + 1):
        total, weight = total + weight * r[i], weight * discount[i]
    return total + weight * v[last]


def lambda_forward(t, lambda_, r, discount, v, cut):
    """Its definition, as a mixture of n-step returns whose weights sum to one."""
    longest = horizon_of(t, discount, cut) - t + 1
    weights = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, longest)] + [lambda_ ** (longest - 1)]
    assert sum(weights) == pytest.approx(1)
    return sum(w * n_step_forward(t, n + 1, r, discount, v, cut) for n, w in enumerate(weights))


def forward(definition, parameter):
    return np.array([definition(t, parameter, *STREAM.values(), CUT) for t in range(T)])


def vtrace_forward(rho, c, lambda_):
    """Espeholt et al., equation 1: v_s + sum of products of traces, within the episode."""
    r, d, v = STREAM.values()
    delta = np.minimum(RATIO, rho) * (r + d * v - BEGIN)
    out = []
    for s in range(T):
        total, weight = BEGIN[s], 1.0
        for t in range(s, horizon_of(s, d, CUT) + 1):
            total += weight * delta[t]
            weight *= d[t] * lambda_ * min(RATIO[t], c)
        out.append(total)
    return np.array(out)


def test_against_the_sums_that_define_them():
    np.testing.assert_allclose(
        discounted_returns(**ARRAYS, truncated_t=FLAGS), forward(n_step_forward, 99), atol=1e-6
    )
    np.testing.assert_allclose(
        lambda_returns(**ARRAYS, lambda_=LAMBDA, truncated_t=FLAGS),
        forward(lambda_forward, LAMBDA),
        atol=1e-6,
    )
    for n in (1, 2, 3, 99):
        np.testing.assert_allclose(
            n_step_returns(**ARRAYS, n=n, truncated_t=FLAGS), forward(n_step_forward, n), atol=1e-6
        )
    advantage = gae(**ARRAYS, v_tm1=jnp.asarray(BEGIN, jnp.float32), lambda_=LAMBDA, truncated_t=FLAGS)
    np.testing.assert_allclose(advantage, forward(lambda_forward, LAMBDA) - BEGIN, atol=1e-6)


def test_vtrace_against_the_sum_that_defines_it():
    v_tm1, rho = (jnp.asarray(x, jnp.float32) for x in (BEGIN, RATIO))
    clips = {"clip_rho": 1.2, "clip_c": 0.7, "clip_advantage": 0.9}
    out = vtrace(**ARRAYS, v_tm1=v_tm1, rho_tm1=rho, lambda_=LAMBDA, truncated_t=FLAGS, **clips)
    target = vtrace_forward(1.2, 0.7, LAMBDA)
    np.testing.assert_allclose(out.target, target, atol=1e-6)
    # Where the episode goes on, the value of what follows is the next target, by a share of lambda.
    r, d, v = STREAM.values()
    on = [horizon_of(t, d, CUT) > t for t in range(T)]
    ahead = np.where(on, LAMBDA * np.append(target[1:], 0) + (1 - LAMBDA) * v, v)
    np.testing.assert_allclose(out.advantage, np.minimum(RATIO, 0.9) * (r + d * ahead - BEGIN), atol=1e-6)


def test_e12_gae():
    # delta_2 = .5 - .3 = .2; delta_1 = 0 + .99 .3 - .4 = -.103, A_1 = -.103 + .9405 .2 = .0851;
    # delta_0 = 1 + .99 .4 - .5 = .896, A_0 = .896 + .9405 .0851 = .9760366.
    v = jnp.array([0.5, 0.4, 0.3, 0.2])
    out = gae(jnp.array([1.0, 0.0, 0.5]), jnp.array([0.99, 0.99, 0.0]), v[:-1], v[1:], lambda_=0.95)
    np.testing.assert_allclose(out, [0.9760366, 0.0851, 0.2], atol=1e-6)


def test_a_truncation_is_no_termination():
    # One step of reward 1 reaches a state worth 10, gamma .9: 1 + 9 if the clock stopped it, 1 if it is over.
    # What follows in the stream (reward 100) belongs to another episode and is not seen in either case.
    r, v = jnp.array([1.0, 100.0]), jnp.array([10.0, 0.0])
    clock = discounted_returns(r, jnp.array([0.9, 0.0]), v, truncated_t=jnp.array([True, False]))
    over = discounted_returns(r, jnp.array([0.0, 0.0]), v, truncated_t=jnp.array([False, False]))
    neither = discounted_returns(r, jnp.array([0.9, 0.0]), v)
    assert [float(x[0]) for x in (clock, over, neither)] == [10.0, 1.0, 91.0]


def test_limits_of_lambda_and_n():
    r, d, v = STREAM.values()
    td, whole = r + d * v, discounted_returns(**ARRAYS, truncated_t=FLAGS)
    np.testing.assert_allclose(lambda_returns(**ARRAYS, lambda_=0.0, truncated_t=FLAGS), td, atol=1e-6)
    np.testing.assert_allclose(n_step_returns(**ARRAYS, n=1, truncated_t=FLAGS), td, atol=1e-6)
    np.testing.assert_array_equal(lambda_returns(**ARRAYS, lambda_=1.0, truncated_t=FLAGS), whole)
    np.testing.assert_allclose(n_step_returns(**ARRAYS, n=T, truncated_t=FLAGS), whole, atol=1e-6)


def test_vtrace_on_its_own_policy_is_the_lambda_return():
    v_tm1 = jnp.asarray(BEGIN, jnp.float32)
    out = vtrace(**ARRAYS, v_tm1=v_tm1, rho_tm1=jnp.ones(T), lambda_=LAMBDA, truncated_t=FLAGS)
    expected = lambda_returns(**ARRAYS, lambda_=LAMBDA, truncated_t=FLAGS)
    np.testing.assert_allclose(out.target, expected, atol=1e-6)


FROZEN = {
    "discounted": [0.0513, 0.057, -0.27, -2.01671, -1.2519, -0.891],
    "lambda": [0.253728, 0.0174, -0.27, -1.5410384, -1.02672, -0.891],
    "n_step": [-0.1269, 0.057, -0.27, -1.0034, -1.2519, -0.891],
    "gae": [0.0405705, -1.2929, 0.22, -1.270192275, -1.685605, -1.251],
    "vtrace target": [0.1418145695, 0.0855116, -0.226, -0.8669683686, -0.31895272, -0.12789],
    "vtrace advantage": [0.0818145695, -1.2544884, 0.3124, -0.2469683686, -0.80895272, -0.48789],
}


def ours(dtype):
    """The five on a stream without a truncation, which is all that rlax knows."""
    r, d, v, rho = (jnp.asarray(x, dtype) for x in (R, D, V, RHO))
    trace = vtrace(r, d, v[:-1], v[1:], rho, lambda_=0.9, clip_rho=1.2, clip_advantage=1.5)
    return {
        "discounted": discounted_returns(r, d, v[1:]),
        "lambda": lambda_returns(r, d, v[1:], lambda_=0.8),
        "n_step": n_step_returns(r, d, v[1:], n=2),
        "gae": gae(r, d, v[:-1], v[1:], lambda_=0.95),
        "vtrace target": trace.target,
        "vtrace advantage": trace.advantage,
    }


@pytest.mark.parametrize(("wide", "atol"), [(False, 1e-6), (True, 1e-9)])
def test_numbers_of_rlax(wide, atol):
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        for name, out in ours(dtype).items():
            assert out.dtype == dtype
            np.testing.assert_allclose(out, FROZEN[name], atol=atol, err_msg=name)


ONES = jnp.ones(3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lambda_returns(ONES, ONES, ONES, lambda_=1.5), r"`lambda_`(.|\n)*got: +1.5(.|\n)*\[0, 1\]"),
        (lambda: gae(ONES, ONES, ONES, ONES, lambda_=float("nan")), "`lambda_` is outside"),
        (lambda: gae(ONES, ONES, ONES, ONES, lambda_=jnp.ones(3)), "`lambda_` is not a scalar"),
        (lambda: n_step_returns(ONES, ONES, ONES, n=0), "`n` is outside"),
        (lambda: vtrace(ONES, ONES, ONES, ONES, ONES, clip_rho=0.0), "`clip_rho` is outside"),
        (lambda: vtrace(ONES, ONES, ONES, ONES, ONES, clip_c=-1.0), "`clip_c` is outside"),
        (lambda: vtrace(ONES, ONES, ONES, ONES, ONES, clip_advantage=0.0), "`clip_advantage` is outside"),
    ],
)
def test_numbers_outside_their_range(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_n_is_an_integer():
    with pytest.raises(TypeError, match="`n` is 2.0, expected an integer"):
        n_step_returns(ONES, ONES, ONES, n=2.0)


def test_an_empty_stream_is_refused():
    with pytest.raises(ValueError, match="empty stream"):
        discounted_returns(ONES[:0], ONES[:0], ONES[:0])


@pytest.mark.parametrize(("wide", "atol"), [(False, 1e-6), (True, 1e-12)])
def test_rlax_on_random_streams(wide, atol):
    rlax = pytest.importorskip("rlax", reason="rlax is not installed: the frozen numbers stand for it")
    rng = np.random.default_rng(3)
    with jax.enable_x64(wide), jax.numpy_rank_promotion("allow"):
        dtype = jnp.float64 if wide else jnp.float32
        for length in (1, 2, 30):
            r, v = (jnp.asarray(rng.normal(size=length + k), dtype) for k in (0, 1))
            d = jnp.asarray(0.97 * (rng.random(length) > 0.2), dtype)
            rho = jnp.asarray(np.exp(rng.normal(size=length)), dtype)
            trace = vtrace(r, d, v[:-1], v[1:], rho, lambda_=0.9, clip_rho=1.2, clip_advantage=1.5)
            theirs = rlax.vtrace_td_error_and_advantage(v[:-1], v[1:], r, d, rho, 0.9, 1.2, 1.5)
            pairs = [
                (discounted_returns(r, d, v[1:]), rlax.discounted_returns(r, d, v[1:])),
                (lambda_returns(r, d, v[1:], lambda_=0.8), rlax.lambda_returns(r, d, v[1:], 0.8)),
                (n_step_returns(r, d, v[1:], n=3), rlax.n_step_bootstrapped_returns(r, d, v[1:], 3)),
                (
                    gae(r, d, v[:-1], v[1:], lambda_=0.9),
                    rlax.truncated_generalized_advantage_estimation(r, d, 0.9, v),
                ),
                (trace.target - v[:-1], theirs.errors),
                (trace.advantage, theirs.pg_advantage),
            ]
            for i, (mine, other) in enumerate(pairs):
                # n-step of a stream shorter than n: rlax reads past its end there.
                if i != 2 or length >= 3:
                    np.testing.assert_allclose(mine, other, atol=atol, rtol=atol, err_msg=str((i, length)))
