"""The losses in JAX as a process that can be asked for them: ours, optax's, rlax's.

  python -m experiments.benchmarks.jax_losses inputs.npz answers.npz --library=ours --cores=0

speaks the protocol of `third_party/torch_losses.py`, whose losses and arguments these are. Every loss is
reduced to its mean and compiled; "gradient" is `jax.value_and_grad`, waited for after each call. Only the
library that is asked for is imported, so an interpreter with rlax and without this project's requirements can
run it.
"""

import json
from collections.abc import Callable

from third_party.torch_losses import CLIP, LAMBDA, LOSSES, TEMPERATURE, answers, parse, serve

LIBRARIES = ("ours", "optax", "rlax")


def ours() -> dict[str, Callable]:
    """Loss -> function of arrays by name, un-reduced."""
    import jax.numpy as jnp

    from ch3_jax.losses import contrastive, reinforcement, returns, self_supervised, supervised
    from ch3_jax.noise.corruption import Mix

    # The rates of the straight line from noise to action: the target is x0 - eps.
    line = Mix(*(jnp.float32(x) for x in (0.5, 0.5, 1.0, -1.0)))
    return {
        "cross_entropy": supervised.cross_entropy,
        "squared": supervised.squared_error,
        "huber": supervised.huber_error,
        "gaussian_nll": supervised.gaussian_nll,
        "mixture_nll": supervised.mixture_nll,
        "gripper": supervised.binary_gripper,
        "flow_matching": lambda predicted, x0, eps: self_supervised.flow_matching(predicted, x0, eps, line),
        "info_nce": lambda scores: contrastive.info_nce(scores, temperature=TEMPERATURE),
        "ppo": lambda log_prob, old_log_prob, advantage: reinforcement.clipped_surrogate(
            log_prob, old_log_prob, advantage, clip=CLIP
        ),
        "gae": lambda reward, discount, value: returns.gae(
            reward, discount, value[:-1], value[1:], lambda_=LAMBDA
        ),
    }


def of_optax() -> dict[str, Callable]:
    """Those that optax has."""
    import jax.numpy as jnp
    import optax

    return {
        "cross_entropy": lambda logits, target: optax.softmax_cross_entropy_with_integer_labels(
            logits, target
        ),
        "squared": lambda prediction, target: optax.squared_error(prediction, target),
        "huber": lambda prediction, target: optax.huber_loss(prediction, target),
        "gripper": lambda logit, target: optax.sigmoid_binary_cross_entropy(logit, target),
        "info_nce": lambda scores: optax.softmax_cross_entropy_with_integer_labels(
            scores / TEMPERATURE, jnp.arange(len(scores))
        ),
    }


def of_rlax() -> dict[str, Callable]:
    """Those that rlax has."""
    import jax.numpy as jnp
    import rlax

    return {
        "huber": lambda prediction, target: rlax.huber_loss(prediction - target),
        "ppo": lambda log_prob, old_log_prob, advantage: rlax.clipped_surrogate_pg_loss(
            jnp.exp(log_prob - old_log_prob), advantage, CLIP
        ),
        "gae": lambda reward, discount, value: rlax.truncated_generalized_advantage_estimation(
            reward, discount, LAMBDA, value
        ),
    }


def make_runs(arrays, formulas: dict[str, Callable]) -> dict[str, Callable]:
    """ "loss-batch-pass" -> function without arguments that returns (value, gradients), compiled."""
    import jax
    import jax.numpy as jnp

    given: dict[tuple[str, str], dict] = {}
    for name, array in arrays.items():
        loss, batch, argument = name.split("/")
        if loss in formulas:
            given.setdefault((loss, batch), {})[argument] = jnp.asarray(array)
    runs = {}
    for (loss, batch), arguments in given.items():

        def mean(learned, rest, loss=loss):
            return jnp.mean(formulas[loss](**learned, **rest))

        learned = {name: arguments.pop(name) for name in LOSSES[loss]}
        forward, both = jax.jit(mean), jax.jit(jax.value_and_grad(mean))
        runs[f"{loss}-{batch}-forward"] = lambda f=forward, x=learned, r=arguments: (f(x, r), ())
        if learned:
            runs[f"{loss}-{batch}-gradient"] = lambda f=both, x=learned, r=arguments: _listed(x, *f(x, r))
    return runs


def _listed(learned: dict, value, gradients: dict) -> tuple:
    """The gradients in the order of the arguments: JAX returns them sorted by name."""
    return value, tuple(gradients[name] for name in learned)


def main() -> None:
    arguments = parse(__doc__.splitlines()[0])
    import jax
    import numpy as np

    formulas = {"ours": ours, "optax": of_optax, "rlax": of_rlax}[arguments.library]()
    with np.load(arguments.inputs) as file:
        runs = make_runs({name: file[name] for name in file.files}, formulas)
    np.savez(arguments.answers, **answers(runs, np.asarray))
    version = f"jax {jax.__version__}"
    if arguments.library != "ours":
        module = __import__(arguments.library)
        version = f"{arguments.library} {module.__version__}"
    print(json.dumps({"ready": arguments.library, "version": version}), flush=True)
    serve(runs, jax.block_until_ready)


if __name__ == "__main__":
    main()
