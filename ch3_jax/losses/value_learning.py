r"""Losses of critics that value actions, and of the actors that follow them.

Every critic learns \tfrac12 \delta^2 (or Huber's) of its TD error, \delta = y - Q(s, a), and its target y is
all that distinguishes it:

  | | target y = r + \gamma ... | actor minimises |
  | --- | --- | --- |
  | DQN | \max_a Q'(s', a) | |
  | double DQN | Q'(s', \argmax_a Q(s', a)) | |
  | TD3 | \min_i Q'_i(s', \mu'(s') + clipped noise) | -Q_1(s, \mu(s)) |
  | SAC | \min_i Q'_i(s', a') - \alpha \log \pi(a') | \alpha \log \pi(a) - \min_i Q_i(s, a) |

A prime marks a target network or an action of its policy. Targets never have a gradient: that a critic moves
towards its target and not the target towards the critic is what the word means.

A transition is one step of a stream (`ch3_jax.losses.streams`); nothing here looks at the next one, so the
steps may as well come from a replay buffer. `discount_t` is gamma and 0 at a termination, and at a truncation
it is gamma: the state reached has a value. Where there are several critics they are the last axis, C.

Peers differ by factors: CleanRL's and Stable-Baselines3's squared errors are without the half (twice these).
"""

import jax
import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array, Key
from ch3_jax.errors import InputError
from ch3_jax.losses.streams import FIX, require_critics, require_number, require_stream
from ch3_jax.probability.values import require_inside

TEMPERATURE_FORMS = ("temperature", "log_temperature")


def td_loss(q_tm1: Array, target_tm1: Array, *, huber: float | None = None) -> Array:
    r"""Half the squared TD error, or Huber's.

    Args:
      q_tm1: (T,) float values of the actions taken, differentiable.
      target_tm1: (T,) float; no gradient.
      huber: above 0, where the error goes from squared to linear; None for squared throughout. 1 in the
        DQN of 2015 ("clipping the error term").

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream, a huber outside its range. TypeError: integers.

    >>> td_loss(jnp.array([0.0, 0.0]), jnp.array([0.5, 3.0]), huber=1.0).tolist()
    [0.125, 2.5]

    Reference: Mnih et al. 2015, Human-level control, Methods.
    """
    require_stream(q_tm1=q_tm1, target_tm1=target_tm1)
    error = jax.lax.stop_gradient(target_tm1) - q_tm1
    if huber is None:
        return 0.5 * jnp.square(error)
    require_number("huber", huber, 0.0, ends="()")
    size = jnp.abs(error)
    near = jnp.minimum(size, huber)
    return near * (size - 0.5 * near)


def dqn(
    q_tm1: Array, a_tm1: Array, r_t: Array, discount_t: Array, q_t: Array, *, huber: float | None = None
) -> Array:
    r"""Q-learning with a target network, y = r + \gamma \max_a Q'(s', a).

    Args:
      q_tm1: (T, K) float values of all actions, differentiable.
      a_tm1: (T,) integer in [0, K), the actions taken.
      r_t, discount_t: (T,) float; discount 0 at a termination.
      q_t: (T, K) float, of the target network at the states reached; no gradient.
      huber: as in `td_loss`.

    Returns:
      (T,). Inside a compiled step an action outside of [0, K) gives NaN.

    Raises:
      ValueError: shapes that differ or are no stream; outside `jit`, an action that does not exist.
        TypeError: float actions, integer values.

    >>> q, one = jnp.array([[1.0, 2.0]]), jnp.ones(1)
    >>> dqn(q, jnp.array([0]), one, 0.5 * one, 4 * q).tolist()
    [8.0]

    Reference: Mnih et al. 2015, Human-level control through deep reinforcement learning, equation 1.
    """
    _discrete(r_t, discount_t, q_tm1=q_tm1, q_t=q_t)
    target = r_t + discount_t * jnp.max(q_t, axis=-1)
    return td_loss(_taken(q_tm1, a_tm1), target, huber=huber)


def double_dqn(
    q_tm1: Array,
    a_tm1: Array,
    r_t: Array,
    discount_t: Array,
    q_t: Array,
    online_q_t: Array,
    *,
    huber: float | None = None,
) -> Array:
    r"""Double Q-learning, y = r + \gamma Q'(s', \argmax_a Q(s', a)): one network chooses, another one values.

    The maximum of noisy estimates is too large on average, the value of a choice made by others is not.

    Args:
      q_tm1, a_tm1, r_t, discount_t, q_t, huber: as in `dqn`.
      online_q_t: (T, K) float, of the network that learns at the states reached; no gradient.

    Returns:
      (T,). Inside a compiled step an action outside of [0, K) gives NaN.

    Raises:
      ValueError: shapes that differ or are no stream; outside `jit`, an action that does not exist.
        TypeError: float actions, integer values.

    >>> q, one = jnp.array([[1.0, 2.0]]), jnp.ones(1)
    >>> double_dqn(q, jnp.array([0]), one, 0.5 * one, 4 * q, -q).tolist()
    [2.0]

    Reference: van Hasselt et al. 2016, arXiv:1509.06461, equation 4.
    """
    _discrete(r_t, discount_t, q_tm1=q_tm1, q_t=q_t, online_q_t=online_q_t)
    chosen = _pick(q_t, jnp.argmax(online_q_t, axis=-1))
    return td_loss(_taken(q_tm1, a_tm1), r_t + discount_t * chosen, huber=huber)


def sac_critics(
    q_tm1: Array, r_t: Array, discount_t: Array, q_t: Array, log_prob_t: Array, temperature: Array
) -> Array:
    r"""Soft critics, y = r + \gamma [\min_i Q'_i(s', a') - \alpha \log \pi(a')], a' drawn from the policy.

    Args:
      q_tm1: (T, C) float values of the actions taken by C critics, differentiable.
      r_t, discount_t: (T,) float; discount 0 at a termination.
      q_t: (T, C) float, of the target critics at s' and a'; no gradient.
      log_prob_t: (T,) float, of a' under the policy; no gradient.
      temperature: () float, alpha, at least 0; no gradient.

    Returns:
      (T, C); the critics' losses are summed by the peers.

    Raises:
      ValueError: shapes that differ or are no stream. TypeError: integers.

    >>> one, q, q_next = jnp.ones(1), jnp.array([[0.0, 1.0]]), jnp.array([[4.0, 6.0]])
    >>> sac_critics(q, one, 0.5 * one, q_next, -one, jnp.array(2.0)).tolist()
    [[8.0, 4.5]]

    Reference: Haarnoja et al. 2018, arXiv:1812.05905, equations 5 and 6.
    """
    require_stream(r_t=r_t, discount_t=discount_t, log_prob_t=log_prob_t)
    require_critics(r_t, q_tm1=q_tm1, q_t=q_t)
    _scalar(temperature=temperature)
    target = r_t + discount_t * (jnp.min(q_t, axis=-1) - temperature * log_prob_t)
    return _each(q_tm1, target)


def sac_actor(q_tm1: Array, log_prob_tm1: Array, temperature: Array) -> Array:
    r"""The soft actor, \alpha \log \pi(a) - \min_i Q_i(s, a), a drawn by reparameterisation.

    Args:
      q_tm1: (T, C) float, of the critics at a; differentiable, for the action's sake: take the gradient with
        respect to the actor's parameters only.
      log_prob_tm1: (T,) float, of a, differentiable.
      temperature: () float, alpha, at least 0; no gradient.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream. TypeError: integers.

    >>> sac_actor(jnp.array([[3.0, 2.0]]), jnp.array([-1.0]), jnp.array(0.5)).tolist()
    [-2.5]

    Reference: Haarnoja et al. 2018, arXiv:1812.05905, equation 9.
    """
    require_stream(log_prob_tm1=log_prob_tm1)
    require_critics(log_prob_tm1, q_tm1=q_tm1)
    _scalar(temperature=temperature)
    return jax.lax.stop_gradient(temperature) * log_prob_tm1 - jnp.min(q_tm1, axis=-1)


def sac_temperature(
    log_temperature: Array, log_prob_tm1: Array, *, target_entropy: float, form: str
) -> Array:
    r"""Raises the temperature while the policy's entropy is below its target, and lowers it above.

    -\alpha (\log \pi(a) + \bar H), \alpha = \exp(l)   "temperature": the paper's, CleanRL
    -l (\log \pi(a) + \bar H)                           "log_temperature": Stable-Baselines3, softlearning

    The signs of the two gradients agree, their sizes differ by alpha: one rate, two speeds.

    Args:
      log_temperature: () float, l, differentiable: alpha stays positive.
      log_prob_tm1: (T,) float, of actions drawn from the policy; no gradient.
      target_entropy: of the policy, in nats; -A by habit.
      form: one of `TEMPERATURE_FORMS`.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that are no stream, an unknown form. TypeError: integers.

    >>> l, log_prob = jnp.log(jnp.array(2.0)), jnp.array([1.5])
    >>> sac_temperature(l, log_prob, target_entropy=-1.0, form="temperature").tolist()
    [-1.0]

    Reference: Haarnoja et al. 2018, arXiv:1812.05905, equation 18.
    """
    require_stream(log_prob_tm1=log_prob_tm1)
    _scalar(log_temperature=log_temperature)
    if form not in TEMPERATURE_FORMS:
        raise InputError(
            "the temperature's loss has two forms, and this is neither",
            got=repr(form),
            expected=" or ".join(map(repr, TEMPERATURE_FORMS)),
            cause="a misspelled name",
            fix="form='temperature' as the paper and CleanRL, 'log_temperature' as Stable-Baselines3",
        )
    factor = jnp.exp(log_temperature) if form == "temperature" else log_temperature
    return -factor * jax.lax.stop_gradient(log_prob_tm1 + target_entropy)


def td3_critics(q_tm1: Array, r_t: Array, discount_t: Array, q_t: Array) -> Array:
    r"""Twin critics, y = r + \gamma \min_i Q'_i(s', a') with a' from `td3_target_action`.

    Args:
      q_tm1: (T, C) float values of the actions taken, differentiable.
      r_t, discount_t: (T,) float; discount 0 at a termination.
      q_t: (T, C) float, of the target critics at s' and a'; no gradient.

    Returns:
      (T, C).

    Raises:
      ValueError: shapes that differ or are no stream. TypeError: integers.

    >>> one = jnp.ones(1)
    >>> td3_critics(jnp.array([[0.0, 1.0]]), one, 0.5 * one, jnp.array([[4.0, 6.0]])).tolist()
    [[4.5, 2.0]]

    Reference: Fujimoto et al. 2018, arXiv:1802.09477, algorithm 1.
    """
    require_stream(r_t=r_t, discount_t=discount_t)
    require_critics(r_t, q_tm1=q_tm1, q_t=q_t)
    return _each(q_tm1, r_t + discount_t * jnp.min(q_t, axis=-1))


def td3_target_action(
    key: Key, action_t: Array, *, sigma: float = 0.2, noise_clip: float = 0.5, limit: float = 1.0
) -> Array:
    r"""The target policy's action, smoothed: clip(\mu' + clip(\sigma n, -c, c), -limit, limit).

    Args:
      key: consumed.
      action_t: (T, A) float, of the target policy at the states reached; no gradient.
      sigma: at least 0, in the units of the action; 0.2 in the paper for actions in [-1, 1].
      noise_clip: c, above 0.
      limit: above 0, the largest action.

    Returns:
      (T, A).

    Raises:
      ValueError: not (T, A), a number outside its range. TypeError: integers.

    >>> td3_target_action(jax.random.key(0), jnp.array([[0.25, 3.0]]), sigma=0.0).tolist()
    [[0.25, 1.0]]

    Reference: Fujimoto et al. 2018, arXiv:1802.09477, equation 14.
    """
    checks.floating(action_t=action_t)
    checks.shapes(fix=FIX, action_t=(action_t, "T A"))
    require_number("sigma", sigma, 0.0, ends="[)")
    require_number("noise_clip", noise_clip, 0.0, ends="()")
    require_number("limit", limit, 0.0, ends="()")
    noise = jnp.clip(sigma * jax.random.normal(key, action_t.shape, action_t.dtype), -noise_clip, noise_clip)
    return jnp.clip(jax.lax.stop_gradient(action_t) + noise, -limit, limit)


def td3_actor(q_tm1: Array) -> Array:
    r"""The deterministic policy gradient: -Q_1(s, \mu(s)), whose gradient in the action is -dQ/da.

    Args:
      q_tm1: (T, C) float, of the critics at the policy's action; the first alone is followed.

    Returns:
      (T,).

    Raises:
      ValueError: not (T, C). TypeError: integers.

    >>> td3_actor(jnp.array([[3.0, 2.0]])).tolist()
    [-3.0]

    References:
      Silver et al. 2014, Deterministic policy gradient algorithms. Fujimoto et al. 2018, arXiv:1802.09477.
    """
    checks.floating(q_tm1=q_tm1)
    checks.shapes(fix=FIX, q_tm1=(q_tm1, "T C"))
    return -q_tm1[:, 0]


def _each(q_tm1: Array, target_tm1: Array) -> Array:
    """The squared TD error of each of the (T, C) critics against the one target."""
    return 0.5 * jnp.square(jax.lax.stop_gradient(target_tm1)[:, None] - q_tm1)


def _taken(q: Array, action: Array) -> Array:
    checks.integer(a_tm1=action)
    checks.shapes(fix=FIX, q_tm1=(q, "T K"), a_tm1=(action, "T"))
    require_inside("a_tm1", action, q.shape[-1])
    inside = (action >= 0) & (action < q.shape[-1])
    return jnp.where(inside, _pick(q, action), jnp.nan)


def _pick(q: Array, action: Array) -> Array:
    """q[t, action[t]], as a comparison: the gradient of indexing is a scatter, slow on every device."""
    at = action[:, None] == jax.lax.broadcasted_iota(action.dtype, q.shape, 1)
    return jnp.sum(jnp.where(at, q, 0), axis=-1)


def _discrete(r_t: Array, discount_t: Array, **values: Array) -> None:
    require_stream(r_t=r_t, discount_t=discount_t)
    checks.floating(**values)
    checks.shapes(fix=FIX, r_t=(r_t, "T"), **{name: (q, "T K") for name, q in values.items()})


def _scalar(**values: Array) -> None:
    checks.floating(**values)
    checks.shapes(fix="one number for all steps", **{name: (x, "") for name, x in values.items()})
