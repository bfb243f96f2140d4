r"""A cloned policy as an agent: what a run learned from demonstrations, ready to be taught by a reward.

| loss of the run | record | parts | exploration |
| --- | --- | --- | --- |
| mse l1 huber | u = \mu(o) + \sigma n | 1 | \sigma, learned from --explore on |
| ce | tokens | A | the softmax itself |
| flow ddpm denoising | chain of K denoising steps | K | each step's deviation, at least --explore |

Observations are shown as the run was shown them, by its own statistics, and actions go back through its own
normaliser, clipped to the environment's bounds. The critic is new: let it learn alone for a few iterations
(`critic_warmup`) before it teaches.

Reference: Ren et al. 2024, arXiv:2409.00588 (DPPO: steps of a chain as actions, early ones discounted).
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array, Key, Params
from ch3_jax.data.normalize import Normalizer, denormalize, normalize
from ch3_jax.environments.environment import Environment, sizes
from ch3_jax.errors import InputError
from ch3_jax.noise.chain import Chain, log_prob, make_chain, walk
from ch3_jax.numerics import in_front
from ch3_jax.objectives import Objective, Shapes, Spread
from ch3_jax.policies.actor_critic import layers_policy
from ch3_jax.probability import categorical, gaussian
from ch3_jax.reinforcement.agent import Acted, Agent
from ch3_jax.tokens.bins import Bins, decode

GAUSSIAN, TOKENS, CHAIN = ("mse", "l1", "huber"), ("ce",), ("flow", "ddpm", "denoising")
_STEPS = 10  # of a chain where the run's sampler takes more than one call for a step
DENOISING_DISCOUNT = 0.99  # of the advantage, per step before the last, as in DPPO


def clone(
    loss: str,
    objective: Objective,
    params: Params,
    normalizers: Mapping[str, Normalizer],
    shapes: Shapes,
    environment: Environment,
    *,
    bins: Bins | None = None,
    spread: Spread | None = None,
    explore: float = 0.1,
    width: int = 64,
) -> tuple[Agent, Params]:
    """An agent that acts as the run does, and its actor's parameters.

    Args:
      loss: of the run.
      objective, params, normalizers, shapes, bins: of the run, as `evaluation.serve.rebuild` gives them.
      environment: to act in.
      spread: of the run's actions, where its sampler clips.
      explore: deviation in normalised units, see the table.
      width: of the new critic's hidden layers.

    Raises:
      InputError: a loss without a likelihood, an architecture that does not fit the environment.
    """
    _require(loss, shapes, environment)
    if loss in TOKENS and objective.logits is None:
        raise InputError(
            "a run whose bins are said one after another cannot be taught by a reward",
            got="--network=openvla",
            expected="bins that are scored side by side",
            cause="its likelihood is one of words, for which no agent is written",
            fix="clone with --network=mlp or --network=rt1:small",
        )
    critic = layers_policy(shapes.state, 1, width, gain=1.0)
    low, high = jnp.asarray(environment.low), jnp.asarray(environment.high)

    def see(raw: Array) -> Array:
        return normalize(normalizers["observation"], raw)

    def to_action(u: Array) -> Array:
        action = denormalize(normalizers["action"], u)
        return jnp.clip(action, in_front(low, action.ndim), in_front(high, action.ndim))

    if loss in GAUSSIAN:
        head = {"log_std": jnp.full((shapes.action,), np.log(explore), jnp.float32)}
        parts = _gaussian(objective, to_action, explore, shapes.action)
    elif loss in TOKENS:
        head, parts = {}, _tokens(objective, to_action, bins)
    else:
        way = objective.sampler
        stochastic = 1.0 if way.name == "ddpm" else 0.0
        steps = way.calls if way.name in ("ddpm", "ddim", "euler") else _STEPS
        clip = None if spread is None or loss == "flow" else (spread.low, spread.high)
        chain = make_chain(way.process, steps, eta=stochastic, smallest=explore, clip=clip)
        head, parts = {}, _chain(objective, to_action, chain, shapes.action)
    actor = {"network": params, **head}

    def init(key: Key) -> Params:
        return {"actor": actor, "critic": critic.init(key)}

    def value(params: Params, seen: Array) -> Array:
        return critic.apply(params["critic"], seen)[..., 0]

    return Agent(init=init, value=value, see=see, **parts), actor


def _gaussian(objective: Objective, to_action: Callable, explore: float, actions: int) -> dict:
    def mean(params: Params, seen: Array) -> Array:
        return objective.act(params["actor"]["network"], seen[:, None], None)[:, 0]

    def act(params: Params, seen: Array, noise: Array) -> Acted:
        log_std = in_front(params["actor"]["log_std"], noise.ndim)
        u = mean(params, seen) + jnp.exp(log_std) * noise
        density = -jnp.sum(0.5 * jnp.square(noise) + log_std + gaussian.HALF_LOG_2PI, -1)
        return Acted(to_action(u), u, density[:, None])

    def score(params: Params, seen: Array, record: Array) -> tuple[Array, Array]:
        mu = mean(params, seen)
        log_std = jnp.broadcast_to(in_front(params["actor"]["log_std"], mu.ndim), mu.shape)
        return gaussian.log_prob(mu, log_std, record)[:, None], gaussian.entropy(log_std)

    return {
        "draw": lambda key, steps, count: jax.random.normal(key, (steps, count, actions)),
        "act": act,
        "score": score,
        "best": lambda params, seen: to_action(mean(params, seen)),
        "largest_entropy": actions * float(np.log(explore) + gaussian.HALF_LOG_2PI + 0.5),
    }


def _tokens(objective: Objective, to_action: Callable, bins: Bins) -> dict:
    def logits(params: Params, seen: Array) -> Array:
        return objective.logits(params["actor"]["network"], seen[:, None])[:, 0]

    def act(params: Params, seen: Array, key: Key) -> Acted:
        table = logits(params, seen)
        chosen = categorical.sample(key, table)
        return Acted(to_action(decode(bins, chosen)), chosen, categorical.log_prob(table, chosen))

    def score(params: Params, seen: Array, record: Array) -> tuple[Array, Array]:
        table = logits(params, seen)
        return categorical.log_prob(table, record), jnp.sum(categorical.entropy(table), -1)

    return {
        "draw": lambda key, steps, count: jax.random.split(key, steps),
        "act": act,
        "score": score,
        "best": lambda params, seen: to_action(decode(bins, jnp.argmax(logits(params, seen), -1))),
        "largest_entropy": len(bins.origin) * float(np.log(bins.count)),
    }


def _chain(objective: Objective, to_action: Callable, chain: Chain, actions: int) -> dict:
    shape = (1, actions)  # H of 1

    def start(key: Key, count: int) -> Array:
        return chain.start(key, (count, *shape))

    def draw(key: Key, steps: int, count: int) -> tuple[Array, Array]:
        of_start, of_steps = jax.random.split(key)
        first = jax.vmap(lambda k: start(k, count))(jax.random.split(of_start, steps))
        return first, jax.random.normal(of_steps, (steps, chain.steps, count, *shape))

    def network(params: Params, seen: Array, copies: int = 1):
        looked = jnp.tile(seen, (copies, 1)) if copies > 1 else seen
        return objective.denoiser(params["actor"]["network"], looked[:, None])

    def density(params: Params, seen: Array, states: Array) -> Array:
        return log_prob(chain, lambda copies: network(params, seen, copies), states)

    def act(params: Params, seen: Array, noise: tuple[Array, Array]) -> Acted:
        states = walk(chain, network(params, seen), *noise)
        record = jnp.moveaxis(states, 0, 1)  # (N, K + 1, 1, A)
        std = jnp.asarray(chain.std)[None]
        z = jnp.sum(jnp.square(noise[1]), (-2, -1)).T
        each = -0.5 * z - actions * (jnp.log(std) + gaussian.HALF_LOG_2PI)
        return Acted(to_action(states[-1][:, 0]), record, each)

    entropy = float(np.sum(actions * (np.log(chain.std) + gaussian.HALF_LOG_2PI + 0.5)))

    def score(params: Params, seen: Array, record: Array) -> tuple[Array, Array]:
        parts = density(params, seen, jnp.moveaxis(record, 1, 0))
        return parts, jnp.full(seen.shape[0], entropy)

    def best(params: Params, seen: Array) -> Array:
        count = seen.shape[0]
        first = jnp.broadcast_to(start(jax.random.key(0), 1), (count, *shape))
        quiet = jnp.zeros((chain.steps, count, *shape))
        return to_action(walk(chain, network(params, seen), first, quiet)[-1][:, 0])

    return {
        "draw": draw,
        "act": act,
        "score": score,
        "best": best,
        "largest_entropy": entropy,
        "part_weights": DENOISING_DISCOUNT ** np.arange(chain.steps - 1, -1, -1, dtype=np.float32),
    }


def _require(loss: str, shapes: Shapes, environment: Environment) -> None:
    known = (*GAUSSIAN, *TOKENS, *CHAIN)
    if loss not in known:
        raise InputError(
            f"a run of --loss={loss} cannot be taught by a reward",
            got=loss,
            expected=", ".join(known),
            cause="its policy has no likelihood that a gradient could go through",
            fix="clone with --loss=mse, --loss=ce or --loss=flow first",
        )
    state, action = sizes(environment)
    for what, got, wanted in (
        ("window", shapes.window, 1),
        ("horizon", shapes.horizon, 1),
        ("numbers observed", shapes.state, state),
        ("numbers of an action", shapes.action, action),
    ):
        if got != wanted:
            raise InputError(
                f"the run's policy does not fit {environment.name}",
                got=f"{what}: {got}",
                expected=f"{what}: {wanted}",
                cause="a policy of another architecture, or one that was trained for another task",
                fix=f"train the clone on data of {environment.name} with --window=1 --horizon=1",
            )
