"""Check 7: demonstrators, labels, schedules, samplers, rewards; faults named, look-alikes left alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.doctor import demonstrations, family, modes, rewards, samplers
from ch3_jax.doctor.finding import NotExamined
from ch3_jax.doctor.patient import Declared, Patient
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.flow import linear_path
from ch3_jax.noise.processes import denoising, diffusion
from ch3_jax.noise.samplers import make_sampler
from ch3_jax.noise.schedules import Schedule, make_schedule
from tests.doctor import patients
from tests.doctor.patients import alarms, causes, patient

N, S = 3000, 4


def recording(change, seed=0, episodes=None):
    """Actions x = linear in the state + 0.1 noise, y the same; `change(rng, state, action)` spoils them."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(N, S))
    action = np.column_stack([state[:, 0] - 0.5 * state[:, 1], state[:, 2]]) + 0.1 * rng.normal(size=(N, 2))
    action = change(rng, state, action)
    offset = np.arange(N + 1) if episodes is None else np.linspace(0, N, episodes + 1).astype(int)
    steps = Steps(state.astype("f"), action.astype("f"), offset)
    return Dataset(Facts("d", "generated", tuple("abcd"), ("x", "y")), {"train": steps})


def both_ways(rng, state, action):
    side = rng.choice([-1.0, 1.0], size=N)
    return action + np.column_stack([side, 0 * side])


def exchanged(rng, state, action):
    wrong = rng.random(N) < 0.2
    action[wrong] = action[rng.permutation(N)[: wrong.sum()]]
    return action


def skewed(rng, state, action):
    return action + 0.5 * rng.exponential(size=(N, 2))


def two_tasks(rng, state, action):
    """Two modes that the state tells apart."""
    return action + 2 * np.sign(state[:, 3:])


def hard_region(rng, state, action):
    return action + 2.0 * rng.normal(size=(N, 2)) * (state[:, 3:] > 1.3)


def gripper(rng, state, action):
    return np.column_stack([action[:, 0], rng.integers(0, 2, N)])


def as_it_is(rng, state, action):
    return action


def of(dataset, **declared):
    return Patient("data", dataset=dataset, declared=Declared(**declared))


@pytest.mark.parametrize(
    ("change", "loss", "expected"),
    [
        (both_ways, "mse", [("mode_averaging", "fault")]),
        (both_ways, "ddpm", []),
        (both_ways, None, []),
        (exchanged, "mse", [("label_noise", "warning")]),
        (as_it_is, "mse", []),
        (skewed, "mse", []),
        (two_tasks, "mse", []),
        (hard_region, "mse", []),
        (gripper, "mse", []),
    ],
)
def test_demonstrations(change, loss, expected):
    found = [alarms(modes.findings(of(recording(change, seed), loss_name=loss))) for seed in range(2)]
    assert found == [expected] * 2


def test_what_two_modes_cost_is_a_quarter_of_their_squared_distance():
    (finding,) = [r for r in modes.findings(of(recording(both_ways), loss_name="mse")) if r.alarm]
    # +1 and -1 on top of the rest: d = 2, d^2 / 4 = 1.
    assert finding.numbers["distance"] == pytest.approx(2, rel=0.05)
    assert finding.numbers["mean_error"] == pytest.approx(1, rel=0.1)
    assert finding.where == "action dimension x"


def test_steps_of_one_episode_are_one_opinion():
    few = of(recording(both_ways, episodes=12), loss_name="mse")
    (result,) = [r for r in family.check(few) if isinstance(r, NotExamined) and "demonstrators" in r.what]
    assert "episodes" in result.needs
    pairs = demonstrations.of_recording(of(recording(as_it_is, episodes=100)))
    groups = demonstrations.neighbourhoods(pairs, 50, 5)
    assert groups
    assert all(len(set(pairs.episode[g])) == 50 for g in groups)
    assert len(set(np.concatenate(groups))) == 50 * len(groups)


@functools.cache
def bimodal_batches():
    rng = np.random.default_rng(0)
    state = rng.normal(size=(40, 64, 1, S)).astype("f")
    centre = state[..., 0] - state[..., 1]
    action = centre + rng.choice([-1, 1], size=centre.shape) + 0.1 * rng.normal(size=centre.shape)
    return state, action[..., None].astype("f"), centre


@pytest.mark.parametrize(("answer", "expected"), [("mean", {"mode_averaging"}), ("one of them", set())])
def test_the_valley_is_judged_by_the_policy(answer, expected):
    state, action, _ = bimodal_batches()
    shift = 0.0 if answer == "mean" else 1.0

    def act(params, observation, key):
        return (observation[..., :1] - observation[..., 1:2]) + shift

    run = Patient(
        "run",
        batches=lambda step: patients.Batch(state[step % 40], action[step % 40], np.ones((64, 1), bool)),
        act=act,
        params={},
        declared=Declared(family="supervised"),
    )
    assert causes(modes.findings(run)) == expected


COSINE, LINEAR = (make_schedule(name, 100) for name in ("squaredcos_cap_v2", "linear"))
FLOW = linear_path()


def perfect(x0, says, process):
    return samplers._oracle(jnp.asarray(x0), says, process)


def noise_patient(sampler, process=None, denoiser=None, **more):
    return Patient(
        "n", sampler=sampler, process=process, denoiser=denoiser, declared=Declared(family="flow"), **more
    )


def zero_snr():
    """The last step without any signal."""
    alpha = COSINE.alpha_bar.copy()
    alpha[-1] = 0.0
    return Schedule("zero", COSINE.betas, alpha)


def renamed(process, like):
    """A process that claims to be another: what a wrong convention looks like from inside."""
    return process._replace(name=like.name, direction=like.direction)


@pytest.mark.parametrize(
    ("process", "name", "steps"),
    [
        (diffusion(COSINE), "ddim", 20),
        pytest.param(FLOW, "euler", 10, marks=pytest.mark.slow),
        pytest.param(denoising(), "ddpm", 20, marks=pytest.mark.slow),
        pytest.param(diffusion(COSINE), "ddpm", 100, marks=pytest.mark.slow),
        pytest.param(linear_path("noise_at_1"), "heun", 5, marks=pytest.mark.slow),
    ],
    ids=["ddim", "euler", "ancestral", "ddpm", "heun"],
)
def test_healthy_samplers_are_left_alone(process, name, steps):
    healthy = noise_patient(make_sampler(name, process, steps=steps), process)
    assert alarms(samplers.findings(healthy)) == []


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (
            lambda: noise_patient(
                make_sampler("ddim", diffusion(LINEAR, allow_signal=True), steps=20),
                diffusion(LINEAR, allow_signal=True),
            ),
            "terminal_signal",
        ),
        (
            lambda: noise_patient(
                make_sampler(
                    "ddim", renamed(diffusion(LINEAR, allow_signal=True), diffusion(COSINE)), steps=20
                ),
                diffusion(COSINE),
            ),
            "schedule_mismatch",
        ),
        (
            lambda: noise_patient(
                make_sampler("euler", renamed(linear_path("noise_at_1"), FLOW), steps=10), FLOW
            ),
            "time_reversed",
        ),
        (
            lambda: noise_patient(make_sampler("euler", linear_path("noise_at_1"), steps=10), FLOW),
            "time_reversed",
        ),
        (
            lambda: noise_patient(
                make_sampler("ddim", diffusion(COSINE), steps=20, prediction="x0"),
                denoiser=Denoiser(lambda x, t: x, "eps", diffusion(COSINE)),
            ),
            "prediction_mismatch",
        ),
        (
            lambda: noise_patient(
                None,
                diffusion(zero_snr(), allow_signal=True),
                Denoiser(lambda x, t: x, "eps", diffusion(zero_snr(), allow_signal=True)),
            ),
            "zero_snr_division",
        ),
    ],
    ids=["linear 100", "cosine and linear", "reversed and renamed", "reversed", "eps for x0", "zero snr"],
)
def test_schedules_and_directions(make, cause):
    assert causes(samplers.findings(make())) == {cause}


def test_a_walk_that_is_wrong_inside_is_found_by_the_oracle():
    honest = make_sampler("euler", FLOW, steps=10)
    backwards = honest._replace(run=lambda denoiser, x, key=None: x - (honest.run(denoiser, x) - x))
    assert causes(samplers.findings(noise_patient(backwards, FLOW))) <= {"time_reversed", "schedule_mismatch"}
    raising = honest._replace(run=lambda denoiser, x, key=None: 1 / 0)
    (result,) = [r for r in samplers.findings(noise_patient(raising, FLOW)) if isinstance(r, NotExamined)]
    assert "ZeroDivisionError" in result.needs


def curved(std):
    """The exact velocity of a Gaussian of this spread: straight for 0, curved for 1."""

    def apply(x, t):
        t = t.reshape((-1,) + (1,) * (x.ndim - 1))
        a, s = t, 1 - t
        variance = a**2 * std**2 + s**2
        return (a * std**2 - s) / variance * x

    return Denoiser(apply, "velocity", FLOW)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "std", "expected"), [(2, 1.0, {"too_few_sampling_steps"}), (10, 1.0, set()), (2, 0.0, set())]
)
def test_halving_the_step(steps, std, expected):
    run = noise_patient(
        make_sampler("euler", FLOW, steps=steps), denoiser=curved(std), extra={"action_shape": (1, 2)}
    )
    assert causes(samplers.findings(run)) == expected


T = np.arange(400)
RISING = 1 / (1 + np.exp(-(T - 200) / 50))


def episodes(returns, success, **extra):
    return Patient(
        "rl", rewards=returns, success=success, extra=extra, declared=Declared(family="reinforcement")
    )


def reward_runs(seed):
    rng = np.random.default_rng(seed)
    done = (rng.random(400) < RISING).astype(float)
    falling = (rng.random(400) < 1 - RISING).astype(float)
    return {
        "healthy": (episodes(done + 0.1 * rng.normal(size=400), done), set()),
        "a cost": (episodes(done - 50 + 0.1 * rng.normal(size=400), done), set()),
        "heavy tails": (episodes(done + rng.standard_t(2, size=400), done), set()),
        "late success": (episodes(np.where(T > 380, done, 0.0), np.where(T > 380, done, 0.0)), set()),
        "shaped, before any success": (episodes(RISING + 0.1 * rng.normal(size=400), np.zeros(400)), set()),
        "sign": (episodes(-falling + 0.1 * rng.normal(size=400), falling), {"reward_sign"}),
        "hacking": (episodes(10 * RISING + rng.normal(size=400), falling), {"reward_hacking"}),
        "sparse": (episodes(np.zeros(400), np.zeros(400)), {"sparse_reward"}),
        "scale": (episodes(done, done, value_targets=1000 * done), {"reward_scale"}),
        "scale, normalised": (
            episodes(done, done, value_targets=1000 * done, returns_normalized=True),
            set(),
        ),
    }


@pytest.mark.parametrize("name", reward_runs(0))
def test_rewards(name):
    for seed in range(5):
        run, expected = reward_runs(seed)[name]
        assert causes(rewards.findings(run)) == expected


def lost_at_once(seed, **extra):
    """Hacked from the first row on: the return climbs and success is gone within a tenth of the run."""
    rng = np.random.default_rng(seed)
    time = np.arange(100)
    returns = 4 * (1 - np.exp(-time / 8)) + 0.05 * rng.normal(size=100)
    return episodes(returns, 0.06 * np.exp(-time / 4) * (time < 12), **extra)


def test_lost_at_once_is_hacking_where_rollouts_tell():
    for seed in range(5):
        within = np.where(np.arange(100) < 12, np.random.default_rng(seed).normal(0, 0.1, 100), np.nan)
        assert causes(rewards.findings(lost_at_once(seed))) == {"reward_sign"}  # the drift that stays behind
        run = lost_at_once(seed, return_with_success=within)
        assert causes(rewards.findings(run)) == {"reward_hacking"}


def test_sparse_reward_has_the_rule_of_three():
    (finding,) = [r for r in rewards.findings(reward_runs(0)["sparse"][0]) if getattr(r, "alarm", False)]
    assert finding.bound == pytest.approx(3 / 400)


@pytest.mark.parametrize("wrong", ["", "terminated", "truncated"])
def test_value_targets_at_the_ends(wrong):
    rng = np.random.default_rng(0)
    reward, ahead = rng.normal(size=300), 5 + rng.normal(size=300)
    terminated, truncated = np.zeros((2, 300), bool)
    terminated[::10], truncated[5::10] = True, True
    behind = np.ones(300, bool)
    behind[terminated] = wrong == "terminated"
    behind[truncated] = wrong != "truncated"
    extra = {
        "step_rewards": reward,
        "next_values": ahead,
        "value_targets": reward + 0.99 * ahead * behind,
        "terminated": terminated,
        "truncated": truncated,
    }
    found = causes(rewards.findings(Patient("rl", extra=extra)))
    assert found == ({"bootstrap"} if wrong else set())


def test_a_test_that_raises_does_not_stop_the_others():
    def act(params, observation, key):
        raise RuntimeError("out of luck")

    run = patient(loss=None, act=act, params={}, declared_family="flow", process=FLOW)
    said = [r for r in family.check(run) if isinstance(r, NotExamined)]
    assert any("out of luck" in r.needs for r in said)
    assert any("oracle" in r.what for r in said)


def test_samples_beside_the_data():
    params = patients.init(jax.random.key(0))

    def act(scale, params, observation, key):
        action = jnp.tile((observation @ patients.GAIN)[:, :1], (1, patients.H, 1))
        return scale * action + 0.1 * jax.random.normal(key, action.shape)

    for scale, expected in ((1.0, set()), (4.0, {"sampled_off_distribution"})):
        assert causes(family.sampled(patient(act=functools.partial(act, scale), params=params))) == expected


@pytest.mark.slow
def test_the_first_loss():
    notes = [r for r in family.check(patient()) if getattr(r, "statistic", "") == "first loss over theory"]
    assert len(notes) == 1
    assert notes[0].severity == "note"
    large = dataclasses.replace(
        patient(),
        batches=lambda step: patients.batches(step)._replace(
            observation=100 * patients.batches(step).observation
        ),
    )
    assert causes(family.first_loss(large)) == {"unnormalized_inputs"}
