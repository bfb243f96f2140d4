"""Whole iterations: what they change, what they refuse, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.environments import probes
from ch3_jax.environments.reach import reach
from ch3_jax.errors import InputError
from ch3_jax.reinforcement import offline, probing, sac
from ch3_jax.reinforcement.build import build
from ch3_jax.reinforcement.rollout import rollout
from ch3_jax.reinforcement.settings import ALGORITHMS, Settings, require
from ch3_jax.training.optimizers import clipped_adamw

SMALL = Settings(
    envs=8, rollout=4, update_epochs=2, minibatches=2, group=4, batch_size=16, updates=2, buffer=64
)


def small(algorithm, environment=None, **changes):
    settings = SMALL._replace(algorithm=algorithm, **changes)
    environment = environment or probes.probe("policy")._replace(
        expert=lambda state: jnp.sign(state.seen)[None] * 0.9
    )
    return build(environment, settings, clipped_adamw(1e-2, weight_decay=0.0), width=8)


def same(a, b):
    return all(
        np.array_equal(*(np.asarray(jax.random.key_data(x) if x.dtype == a_key else x) for x in pair))
        for pair in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        if (a_key := jax.random.key(0).dtype) is not None
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_iteration_moves_the_parameters_and_repeats_bit_for_bit(algorithm):
    made = small(algorithm)
    start = made.start(jax.random.key(0))
    iteration = jax.jit(made.iteration)
    after, metrics = iteration(start)
    again, _ = iteration(made.start(jax.random.key(0)))
    assert bool(metrics["finite"])
    assert int(after.step) == 1
    assert int(after.train.step) == made.updates
    assert not same(after.params["actor"], start.params["actor"])
    assert same(after, again)
    # NaN where there is nothing to compare: a recorded episode of this probe is one step.
    for name in (
        *("explained_variance", "return_with_success", "terminated_error", "truncated_error"),
        *("advantage_between_envs", "advantage_between_steps"),
    ):
        metrics.pop(name, None)
    assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(metrics))


@pytest.mark.parametrize(
    ("algorithm", "what"), [("ppo", "observation"), ("grpo", "reward"), ("sac", "observation")]
)
def test_what_is_not_finite_leaves_the_last_good_state(algorithm, what):
    good = probes.probe("value")

    def step(state, action, key):
        state, outcome = good.step(state, action, key)
        if what == "reward":
            return state, outcome._replace(reward=outcome.reward * jnp.nan)
        return state._replace(seen=state.seen + jnp.inf), outcome

    made = small(algorithm, good._replace(step=step))
    start = made.start(jax.random.key(0))
    after, metrics = jax.jit(made.iteration)(start)
    assert not bool(metrics["finite"])
    assert same(after, start)


def test_a_new_critic_learns_alone_for_as_long_as_it_is_told():
    made = small("ppo", critic_warmup=2)
    state = made.start(jax.random.key(0))
    iteration = jax.jit(made.iteration)
    for i in range(3):
        after, _ = iteration(state)
        assert same(after.params["actor"], state.params["actor"]) == (i < 2)
        assert not same(after.params["critic"], state.params["critic"])
        state = after


def test_target_kl_ends_the_updates_of_an_iteration():
    far = small("ppo", target_kl=1e-9)
    free = small("ppo")
    start = far.start(jax.random.key(0))
    stopped, _ = jax.jit(far.iteration)(start)
    went_on, _ = jax.jit(free.iteration)(free.start(jax.random.key(0)))
    assert int(stopped.train.step) == int(went_on.train.step)  # the clock of the schedule goes on

    def moved(state):
        return sum(
            float(jnp.abs(a - b).sum())
            for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(start.params), strict=True)
        )

    assert 0 < moved(stopped) < 0.6 * moved(went_on)


def test_the_loss_of_an_iteration_is_the_sum_of_its_parts_and_entropy_is_paid_for():
    made = small("ppo", entropy_cost=0.3, value_cost=0.7)
    _, metrics = jax.jit(made.iteration)(made.start(jax.random.key(0)))
    parts = metrics["policy_loss"] + 0.7 * metrics["value_loss"] - 0.3 * metrics["entropy"]
    assert float(metrics["loss"]) == pytest.approx(float(parts), rel=1e-5)


def test_awr_weighs_what_was_done_by_the_exponential_of_its_advantage():
    """Advantages of 3 and 1 are +1 and -1 once normalised: weights e and 1/e."""
    agent = offline.offline_agent(probes.probe("policy"), "awr", width=8)
    params = agent.init(jax.random.key(0))
    seen, record = jnp.array([[1.0], [-1.0]]), jnp.array([[0.5], [-0.2]])
    nothing = jnp.zeros(2)
    batch = offline.Recorded(
        seen, seen, record, nothing, nothing.astype(bool), advantage=jnp.array([3.0, 1.0]), target=nothing
    )
    loss = offline.make_loss(agent, Settings(algorithm="awr", temperature=1.0, max_weight=20.0))
    _, metrics = loss(params, (batch, None), None)
    log_prob = np.asarray(agent.score(params, seen, record)[0])[:, 0]
    expected = -(np.e * log_prob[0] + log_prob[1] / np.e) / 2
    assert float(metrics["policy_loss"]) == pytest.approx(expected, rel=1e-4)


def test_minibatches_of_steps_see_each_step_once_in_a_pass():
    """With a rate of nothing the loss is the mean over all steps, whatever they are cut into."""
    losses = []
    for cut in (
        {"minibatch_of": "environments", "minibatches": 1},
        {"minibatch_of": "steps", "minibatches": 8},
    ):
        settings = SMALL._replace(update_epochs=1, normalize_advantage=False, **cut)
        made = build(probes.probe("policy"), settings, clipped_adamw(0.0, weight_decay=0.0), width=8)
        _, metrics = jax.jit(made.iteration)(made.start(jax.random.key(0)))
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_ring_forgets_the_oldest_and_takes_nothing_bad():
    made = small("sac", buffer=48)
    state = made.start(jax.random.key(0))
    iteration = jax.jit(made.iteration)
    for expected in (32, 48, 48):
        state, _ = iteration(state)
        assert int(state.memory.filled) == expected
    assert int(state.memory.at) == 96 % 48
    assert set(np.asarray(state.memory.steps.observation).ravel().tolist()) == {-1.0, 1.0}


def test_a_rollout_that_is_not_finite_moves_no_counter_of_the_ring():
    made = small("sac", buffer=48)
    state, _ = jax.jit(made.iteration)(made.start(jax.random.key(0)))
    _, data = rollout(
        probes.probe("policy"), made.agent, state.params, lambda x: x, state.lanes, jax.random.key(1), 4, 0.9
    )
    pushed = sac.push(state.memory, data, jnp.asarray(False))
    assert same(pushed, state.memory)
    moved = sac.push(state.memory, data, jnp.asarray(True))
    assert int(moved.at) == (int(state.memory.at) + data.reward.size) % 48
    assert int(moved.filled) == min(int(state.memory.filled) + data.reward.size, 48)


def test_the_terms_of_sac_leave_one_another_alone():
    environment = probes.probe("policy")
    agent = sac.soft_agent(environment, width=8)
    params = agent.init(jax.random.key(0))
    loss = sac.make_loss(agent, SMALL, 1)
    one = jnp.ones((16, 1))
    steps = sac.Steps(one, one, 0.3 * one, one[:, 0], jnp.zeros(16, bool))
    whole = jax.grad(lambda p: loss(p, (steps, params), jax.random.key(1))[0])(params)

    def critics_alone(p):
        return loss(p, (steps, params), jax.random.key(1))[1]["value_loss"]

    alone = jax.grad(critics_alone)(params)
    for a, b in zip(jax.tree.leaves(whole["critics"]), jax.tree.leaves(alone["critics"]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(alone["actor"]))
    assert float(whole["log_temperature"]) != 0


def test_a_recording_without_noise_is_the_demonstrator_and_with_noise_is_worse():
    environment = reach("dense")
    clean = offline.recording(environment, jax.random.key(0), 64, noise=0.0)
    noisy = offline.recording(environment, jax.random.key(0), 64, noise=1.0)
    assert float(clean.success[-1].mean()) > 0.9
    assert float(noisy.success[-1].mean()) < 0.7
    state = environment.reset(jax.random.key(5))
    half = (environment.high - environment.low) / 2
    np.testing.assert_allclose(np.asarray(clean.record) * half, clean.action, atol=1e-5)
    assert np.abs(environment.expert(state)).max() <= half.max() + 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"gamma": 1.5},
        {"gamma": float("nan")},
        {"gae_lambda": -0.1},
        {"clip_ratio": 0.0},
        {"envs": 0},
        {"envs": 10, "minibatches": 4},
        {"algorithm": "grpo", "envs": 12, "minibatches": 4, "group": 8},
        {"algorithm": "pppo"},
        {"envs": 1, "rollout": 10, "minibatches": 3, "minibatch_of": "steps"},
        {"minibatch_of": "episodes"},
        {"expectile": 1.0},
    ],
)
def test_numbers_outside_of_their_range_are_refused(changes):
    with pytest.raises(InputError):
        require(Settings(**changes))


def test_a_rollout_larger_than_the_buffer_is_refused():
    with pytest.raises(InputError, match="buffer"):
        small("sac", buffer=16)


def test_sac_refuses_choices_and_offline_asks_for_a_demonstrator():
    with pytest.raises(InputError, match="continuous"):
        small("sac", probes.probe("policy")._replace(choices=2))
    with pytest.raises(InputError, match="demonstrator"):
        made = small("awr", probes.probe("policy"))
        made.start(jax.random.key(0))


@pytest.mark.parametrize("name", probes.PROBES)
def test_ppo_learns_each_probe(name):
    assert probing.probe(name).passed


@pytest.mark.slow
@pytest.mark.parametrize("bug", probing.BUGS)
def test_the_first_probe_that_fails_is_that_of_the_planted_bug(bug):
    before = probes.PROBES.index(bug)
    results = [probing.probe(name, bug=bug).passed for name in probes.PROBES[: before + 1]]
    assert results == [True] * before + [False]


@pytest.mark.slow
def test_a2c_learns_the_probes_too():
    assert all(probing.probe(name, algorithm="a2c").passed for name in probes.PROBES)
