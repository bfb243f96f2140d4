"""What every reinforcement loss has in common, tried on each.

Gradients are those of differences, or exactly zero where a target, an advantage or an older network stands;
`jit` and `vmap` change nothing; every argument changes some output; a wrong shape or type is refused by name.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from ch3_jax.losses import advantages, offline, reinforcement, returns, value_learning

T, K, C, A = 5, 3, 2, 2
RNG = np.random.default_rng(11)


def normal(*shape):
    return RNG.normal(size=shape).round(2) + 0.003 * RNG.uniform(size=shape)


def log_prob():
    return -RNG.exponential(size=T) - 0.01


STREAM = {"r_t": normal(T), "discount_t": np.array([0.9, 0.8, 0.0, 0.9, 0.9]), "v_t": normal(T)}
CUT = {"truncated_t": np.array([False, True, False, False, False])}
LAMBDA = {"lambda_": np.array(0.8)}
TD = {"r_t": normal(T), "discount_t": np.array([0.9, 0.8, 0.0, 0.9, 0.9])}
Q = {"q_tm1": normal(T, K), "a_tm1": np.array([0, 2, 1, 1, 0], np.int32), "q_t": normal(T, K)}
# The ratio of the second step is below PPO's clip, that of the third above it.
NEW = np.array([-1.0, -1.5, -0.6, -2.0, -0.9])
OLD = np.array([-1.1, -1.0, -1.2, -2.1, -0.85])
MASK = np.array([True, True, False, True, True])
SMOOTHING_KEY = jax.random.key(5)


def smoothed(action_t, **options):
    return value_learning.td3_target_action(SMOOTHING_KEY, action_t, **options)


# name: (function, arrays, options, other values of the options, arguments that get no gradient)
CASES = {
    "discounted_returns": (returns.discounted_returns, {**STREAM, **CUT}, {}, {}, ()),
    "lambda_returns": (returns.lambda_returns, {**STREAM, **CUT, **LAMBDA}, {}, {}, ()),
    "n_step_returns": (returns.n_step_returns, {**STREAM, **CUT}, {"n": 2}, {"n": 1}, ()),
    "gae": (returns.gae, {**STREAM, **CUT, **LAMBDA, "v_tm1": normal(T)}, {}, {}, ()),
    "vtrace": (
        returns.vtrace,
        {**STREAM, **CUT, **LAMBDA, "v_tm1": normal(T), "rho_tm1": np.array([0.6, 1.0, 1.4, 0.5, 0.8])},
        {"clip_rho": 1.2, "clip_c": 0.7, "clip_advantage": 0.9},
        {"clip_rho": 0.55, "clip_c": 0.55, "clip_advantage": 0.55},
        (),
    ),
    "reinforce": (
        reinforcement.reinforce,
        {"log_prob_tm1": log_prob(), "return_tm1": normal(T), "baseline_tm1": normal(T)},
        {},
        {},
        ("return_tm1", "baseline_tm1"),
    ),
    "policy_gradient": (
        reinforcement.policy_gradient,
        {"log_prob_tm1": log_prob(), "advantage_tm1": normal(T)},
        {},
        {},
        ("advantage_tm1",),
    ),
    "entropy_loss": (reinforcement.entropy_loss, {"logits_tm1": normal(T, K)}, {}, {}, ()),
    "a2c": (
        reinforcement.a2c,
        {"log_prob_tm1": log_prob(), "entropy_tm1": normal(T), "v_tm1": normal(T), "return_tm1": normal(T)},
        {"value_cost": 0.5, "entropy_cost": 0.1},
        {"value_cost": 0.6, "entropy_cost": 0.2},
        # v_tm1 learns by the second term only: its own test is below.
        ("return_tm1", "v_tm1"),
    ),
    "clipped_surrogate": (
        reinforcement.clipped_surrogate,
        {
            "log_prob_tm1": NEW,
            "old_log_prob_tm1": OLD,
            "advantage_tm1": np.array([1.0, -1.0, 2.0, 0.7, -0.4]),
        },
        {"clip": 0.2, "clip_high": 0.28},
        {"clip": 0.1, "clip_high": 0.4},
        ("old_log_prob_tm1", "advantage_tm1"),
    ),
    "value_loss": (
        reinforcement.value_loss,
        {"v_tm1": normal(T), "target_tm1": normal(T), "old_v_tm1": normal(T)},
        {"clip": 0.2},
        {"clip": 0.4},
        ("target_tm1", "old_v_tm1"),
    ),
    "grpo": (
        reinforcement.grpo,
        {
            "log_prob_tm1": NEW,
            "old_log_prob_tm1": OLD,
            "advantage": np.array(-0.7),
            "reference_log_prob_tm1": log_prob(),
        },
        {"clip": 0.2, "clip_high": 0.28, "kl_cost": 0.1},
        # A bad episode meets the lower clip only; the upper one has its own test.
        {"clip": 0.05, "kl_cost": 0.2},
        ("old_log_prob_tm1", "advantage", "reference_log_prob_tm1"),
    ),
    "kl_k1": (reinforcement.kl_k1, {"sampled_log_prob": NEW, "other_log_prob": OLD}, {}, {}, ()),
    "kl_k3": (reinforcement.kl_k3, {"sampled_log_prob": NEW, "other_log_prob": OLD}, {}, {}, ()),
    "clipped": (
        reinforcement.clipped,
        {"log_prob_tm1": NEW, "old_log_prob_tm1": OLD},
        {"clip": 0.2, "clip_high": 0.28},
        {"clip": 0.9, "clip_high": 3.0},
        (),
    ),
    "normalize_advantages": (
        advantages.normalize_advantages,
        {"advantage": normal(T), "mask": MASK},
        {"ddof": 1, "eps": 1e-8},
        {"ddof": 0, "eps": 0.1},
        (),
    ),
    "group_advantages": (
        advantages.group_advantages,
        {"reward": normal(2, T)},
        {"ddof": 1, "eps": 1e-6},
        {"ddof": 0, "eps": 0.1},
        (),
    ),
    "explained_variance": (
        advantages.explained_variance,
        {"v_tm1": normal(T), "return_tm1": normal(T), "mask": MASK},
        {},
        {},
        (),
    ),
    "td_loss": (
        value_learning.td_loss,
        {"q_tm1": normal(T), "target_tm1": normal(T)},
        {"huber": 0.5},
        {"huber": 0.1},
        ("target_tm1",),
    ),
    "dqn": (value_learning.dqn, {**Q, **TD}, {"huber": 0.5}, {"huber": None}, ("r_t", "discount_t", "q_t")),
    "double_dqn": (
        value_learning.double_dqn,
        {**Q, **TD, "online_q_t": normal(T, K)},
        {"huber": 0.5},
        {"huber": None},
        ("r_t", "discount_t", "q_t", "online_q_t"),
    ),
    "sac_critics": (
        value_learning.sac_critics,
        {
            **TD,
            "q_tm1": normal(T, C),
            "q_t": normal(T, C),
            "log_prob_t": log_prob(),
            "temperature": np.array(0.3),
        },
        {},
        {},
        ("r_t", "discount_t", "q_t", "log_prob_t", "temperature"),
    ),
    "sac_actor": (
        value_learning.sac_actor,
        {"q_tm1": normal(T, C), "log_prob_tm1": log_prob(), "temperature": np.array(0.3)},
        {},
        {},
        ("temperature",),
    ),
    "sac_temperature": (
        value_learning.sac_temperature,
        {"log_temperature": np.array(-0.7), "log_prob_tm1": log_prob()},
        {"target_entropy": -2.0, "form": "temperature"},
        {"target_entropy": -1.0, "form": "log_temperature"},
        ("log_prob_tm1",),
    ),
    "td3_critics": (
        value_learning.td3_critics,
        {**TD, "q_tm1": normal(T, C), "q_t": normal(T, C)},
        {},
        {},
        ("r_t", "discount_t", "q_t"),
    ),
    "td3_target_action": (
        smoothed,
        {"action_t": normal(T, A) / 2},
        {"sigma": 0.4, "noise_clip": 0.5, "limit": 0.8},
        {"sigma": 0.2, "noise_clip": 0.1, "limit": 0.3},
        ("action_t",),
    ),
    "td3_actor": (value_learning.td3_actor, {"q_tm1": normal(T, C)}, {}, {}, ()),
    "awr": (
        offline.awr,
        {"log_prob_tm1": log_prob(), "advantage_tm1": normal(T)},
        {"temperature": 0.5, "max_weight": 3.0},
        {"temperature": 0.9, "max_weight": 1.0},
        ("advantage_tm1",),
    ),
    "iql_value": (
        offline.iql_value,
        {"v_tm1": normal(T), "q_tm1": normal(T)},
        {"expectile": 0.7},
        {"expectile": 0.9},
        ("q_tm1",),
    ),
    "iql_critics": (
        offline.iql_critics,
        {**STREAM, "q_tm1": normal(T, C)},
        {},
        {},
        ("r_t", "discount_t", "v_t"),
    ),
}
each = pytest.mark.parametrize("name", CASES)
# One program is compiled per function: some of every kind by default, all of them with the slow tests.
QUICK = {"n_step_returns", "vtrace", "a2c", "clipped_surrogate", "grpo", "group_advantages"}
QUICK |= {"double_dqn", "sac_critics", "sac_actor", "awr", "iql_value"}
each_compiled = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
# Steps in which only the comparison enters: of these no output changes with a small change of the argument.
COMPARED = {("clipped", "log_prob_tm1"), ("clipped", "old_log_prob_tm1"), ("double_dqn", "online_q_t")}
STEP = 1e-6


def split(given, dtype):
    """Floating arguments, and the others."""
    arrays = {k: jnp.asarray(x, dtype if x.dtype.kind == "f" else x.dtype) for k, x in given.items()}
    floats = {k: x for k, x in arrays.items() if jnp.issubdtype(x.dtype, jnp.floating)}
    return floats, {k: x for k, x in arrays.items() if k not in floats}


def in_float32(given):
    floats, others = split(given, jnp.float32)
    return {**floats, **others}


def flat(out):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(out)])


def test_every_public_function_is_tried():
    modules = (returns, reinforcement, advantages, value_learning, offline)
    public = {
        name
        for module in modules
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and name[0] != "_"
    }
    assert public - {"VTrace"} == set(CASES)


@each_compiled
def test_gradients_jit_and_vmap(name):
    """One compiled, mapped program per function: values, gradients, and the neighbours for differences."""
    function, given, options, _, stopped = CASES[name]
    one = in_float32(given)
    other = {k: jnp.flip(x) if jnp.issubdtype(x.dtype, jnp.floating) else x for k, x in one.items()}
    plain = [flat(function(**x, **options)) for x in (one, other)]
    with jax.enable_x64(True):
        floats, fixed = split(given, jnp.float64)
        vector, unravel = ravel_pytree(floats)

        def total(x):
            out = flat(function(**unravel(x), **fixed, **options))
            return jnp.sum(jnp.sin(out)), out

        program = jax.jit(jax.vmap(jax.value_and_grad(total, has_aux=True)))
        flipped = ravel_pytree({k: np.flip(x) for k, x in floats.items()})[0]
        steps = STEP * np.eye(vector.size)
        row = np.asarray(vector)[None]
        rows = np.concatenate([row, np.asarray(flipped)[None], row + steps, row - steps])
        (totals, out), gradients = program(rows)
        if name == "td3_target_action":  # the same key draws another noise in another dtype
            plain = [total(jnp.asarray(x))[1] for x in rows[:2]]
        np.testing.assert_allclose(out[:2], np.stack(plain), rtol=1e-5, atol=1e-6, err_msg="jit or vmap")
        assert out.dtype == jnp.float64
        ahead, behind = np.split(np.asarray(totals[2:]), 2)
        differences, gradient = unravel((ahead - behind) / (2 * STEP)), unravel(gradients[0])
    for argument in floats:
        if argument not in stopped:
            np.testing.assert_allclose(gradient[argument], differences[argument], atol=1e-8, err_msg=argument)
        elif (name, argument) != ("a2c", "v_tm1"):
            np.testing.assert_array_equal(gradient[argument], 0, err_msg=argument)
            if (name, argument) not in COMPARED:
                assert np.abs(differences[argument]).max() > 1e-3, f"{argument} enters nowhere"


def test_the_critic_of_a2c_learns_by_its_error_alone():
    _, given, options, _, _ = CASES["a2c"]
    floats, _ = split(given, jnp.float32)
    gradient = jax.grad(lambda v: jnp.sum(reinforcement.a2c(**{**floats, "v_tm1": v}, **options)))
    v, target = floats["v_tm1"], floats["return_tm1"]
    np.testing.assert_allclose(gradient(v), 0.5 * (v - target), rtol=1e-6)


@each
def test_every_argument_changes_some_output(name):
    function, given, options, others, _ = CASES[name]
    arrays = in_float32(given)
    before = flat(function(**arrays, **options))
    assert before.dtype == jnp.float32
    for argument, x in arrays.items():
        if x.dtype == bool:
            changed = jnp.roll(x, 1)
        elif jnp.issubdtype(x.dtype, jnp.integer):
            changed = (x + 1) % K
        else:
            changed = jnp.flip(0.5 * x - 0.1)
        after = flat(function(**{**arrays, argument: changed}, **options))
        assert np.abs(after - before).max() > 1e-3, argument
    assert set(options) - set(others) <= {"clip_high"}
    for option, value in others.items():
        after = flat(function(**arrays, **{**options, option: value}))
        assert np.abs(after - before).max() > 1e-6, option


@each
def test_bad_shapes_and_types(name):
    function, given, options, _, _ = CASES[name]
    arrays = in_float32(given)
    streams = sum(x.ndim > 0 for x in arrays.values())
    for argument, x in arrays.items():
        # (T,) against (T, 1) broadcasts to (T, T) and trains on a plausible number.
        if name != "group_advantages":
            with pytest.raises(ValueError, match=r"`\w+` (has shape|is not a scalar)"):
                function(**{**arrays, argument: x[..., None]}, **options)
        if x.ndim and streams > 1:
            with pytest.raises(ValueError, match="has shape"):
                function(**{**arrays, argument: x[:-1]}, **options)
        if argument != "lambda_":
            other = jnp.int32 if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
            with pytest.raises(TypeError, match=f"`{argument}` has dtype"):
                function(**{**arrays, argument: x.astype(other)}, **options)
