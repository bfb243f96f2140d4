"""Run folders as training leaves them, with parameters that nobody has trained."""

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.data.statistics import of_array
from ch3_jax.evaluation import serve
from ch3_jax.objectives import Shapes, make_objective
from ch3_jax.training import checkpoints
from ch3_jax.training.optimizers import clipped_adamw
from ch3_jax.training.update import init_state


def write(folder, observation, action, names, *, loss="mse", window=2, horizon=4, turns=None):
    """A run on rows (N, S) and (N, A); `names` are those of both. Returns its folder."""
    options = {
        "loss": loss,
        "normalize": "minmax",
        "window": window,
        "horizon": horizon,
        "width": 8,
        "dtype": "float32",
        "ema": "none",
        "noise_steps": None,
    }
    shapes = Shapes(window, observation.shape[1], horizon, action.shape[1])
    objective = make_objective(loss, shapes, width=8)
    draw = np.random.default_rng(0)
    like = jax.eval_shape(objective.init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.asarray(draw.normal(0, 0.3, x.shape), jnp.float32), like)
    state = init_state(params, clipped_adamw(1.0), jax.random.key(0))
    statistics = (of_array(x, n) for x, n in zip((observation, action), names, strict=True))
    record = serve.record(options, *statistics, None, turns)
    checkpoints.save(folder / "checkpoints", 7, state, {**record, "metrics_bytes": 0}, None)
    return folder
