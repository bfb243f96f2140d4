"""A run folder as a policy: rebuilt from its checkpoint, sampled in another way, never in a wrong one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.data.normalize import normalize
from ch3_jax.data.statistics import of_array
from ch3_jax.errors import InputError
from ch3_jax.evaluation import serve
from ch3_jax.objectives import Shapes, make_objective
from ch3_jax.training import checkpoints
from ch3_jax.training.optimizers import clipped_adamw
from ch3_jax.training.update import init_state

OPTIONS = {
    "loss": "flow",
    "normalize": "zscore",
    "window": 1,
    "horizon": 2,
    "width": 8,
    "dtype": "float32",
    "ema": "none",
    "time_direction": "noise_at_1",
    "sampling_steps": 2,
    "noise_steps": None,
    "lr": 1,
}
SEEN = np.zeros((3, 1, 2), np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder as a run of a flow leaves it, with openpi's direction of time."""
    folder = tmp_path_factory.mktemp("run")
    draw = np.random.default_rng(0)
    statistics = [of_array(draw.normal(3, 2, (50, 2)), names) for names in (("o1", "o2"), ("a1", "a2"))]
    objective = make_objective("flow", Shapes(1, 2, 2, 2), width=8)
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(draw.normal(0, 0.3, x.shape), jnp.float32), shapes)
    state = init_state(params, clipped_adamw(1.0), jax.random.key(0))
    record = serve.record(OPTIONS, *statistics, None)
    checkpoints.save(folder / "checkpoints", 7, state, {**record, "metrics_bytes": 0}, None)
    return folder


def test_everything_behind_a_run(run):
    found = serve.rebuild(run)
    assert found.step == 7
    assert found.shapes == Shapes(1, 2, 2, 2)
    network = found.objective.denoiser(found.params, jnp.zeros((3, 1, 2)))
    assert (network.prediction, network.process.direction) == ("velocity", "noise_at_1")
    assert found.objective.sampler.calls == 2
    assert network.at(jnp.zeros((3, 2, 2)), 0.5).shape == (3, 2, 2)
    # z-scored: what lies two standard deviations beside the mean is 2
    far = found.action.mean + 2 * found.action.std
    np.testing.assert_allclose(normalize(found.normalizers["action"], jnp.asarray(far)), 2, rtol=1e-5)


def test_another_way_from_noise_to_action(run):
    policies = [serve.load(run), serve.load(run, sampler="heun", sampling_steps=1)]
    actions = [p.act(SEEN, jax.random.key(1)) for p in policies]
    assert actions[0].shape == actions[1].shape == (3, 2, 2)
    assert float(jnp.abs(actions[0] - actions[1]).max()) > 1e-4
    calls = [
        serve.rebuild(run, **s).objective.sampler.calls for s in ({"sampling_steps": 4}, {"sampler": "heun"})
    ]
    assert calls == [4, 20]  # the run's two steps were Euler's


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        ({"time_direction": "noise_at_0"}, "another direction"),
        ({"prediction": "x0"}, "another prediction"),
        ({"sampling_steps": 0}, "1 or more"),
        ({"sampler": "euler", "sampling_steps": -3}, "1 or more"),
        ({"sampler": "eular"}, "midpoint"),
        ({"noise_steps": 50}, "--loss=ddpm"),
        ({"steps": 4}, "misspelt"),
    ],
)
def test_a_wrong_way_is_refused(run, sampling, words):
    with pytest.raises(InputError) as refused:
        serve.load(run, **sampling)
    assert words in str(refused.value)


def test_a_folder_without_a_policy_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no trained policy"):
        serve.load(tmp_path)
