r"""What an action was worth: rewards of one stream of time, summed up backwards.

All five are one linear recursion, x_t = a_t + b_t x_{t+1}, with c_t = 0 where the stream is cut:

  discounted   G_t = r_t + \gamma_t [(1 - c_t) v_t + c_t G_{t+1}]
  \lambda      G_t = r_t + \gamma_t [(1 - \lambda c_t) v_t + \lambda c_t G_{t+1}]
  n-step       that of `discounted`, applied n times to v instead of to the end
  GAE          A_t = \delta_t + \gamma_t \lambda c_t A_{t+1},   \delta_t = r_t + \gamma_t v_t - v_{t-1}
  V-trace      E_t = \bar\rho_t \delta_t + \gamma_t \lambda \bar c_t c_t E_{t+1}

where \gamma_t is `discount_t`: gamma, and 0 where the episode terminated. `ch3_jax.losses.streams` says how a
termination, a truncation and the end of the stream differ; a function that knows one flag `done` cannot tell
them apart and teaches that a time limit is a death.

Nothing here stops a gradient: the losses do, since only they know what is a target.

The recursion is a plain reverse scan. `jax.lax.associative_scan` has a depth of log T, but multiplies the b
of neighbours first, which rounds differently from the definition, and on a CPU it took 2 to 5 times as long.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.errors import InputError
from ch3_jax.losses.streams import goes_on, require_number, require_stream


class VTrace(NamedTuple):
    """What V-trace gives to a critic and to an actor.

    Attributes:
      target: (T,), for the values at the beginning of the steps, v_tm1.
      advantage: (T,), of the actions, with its own importance weight in it.
    """

    target: Array
    advantage: Array


def discounted_returns(
    r_t: Array, discount_t: Array, v_t: Array, *, truncated_t: Array | None = None
) -> Array:
    r"""Sums of discounted rewards to the end of the episode, G_t = r_t + \gamma_t G_{t+1}.

    Where the stream is cut and at its end, the value of the state reached stands for the rest.

    Args:
      r_t: (T,) float rewards.
      discount_t: (T,) float, gamma and 0 at a termination.
      v_t: (T,) float values of the states reached; zeros for a return without a critic.
      truncated_t: (T,) bool, True where the stream is cut while the task went on.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream. TypeError: integers, flags that are not bool.

    >>> ones = jnp.ones(3)
    >>> discounted_returns(ones, jnp.array([0.5, 0.5, 0.0]), 8 * ones).tolist()
    [1.75, 1.5, 1.0]
    >>> discounted_returns(ones, jnp.array([0.5, 0.5, 0.5]), 8 * ones).tolist()
    [2.75, 3.5, 5.0]

    Reference: Sutton and Barto 2018, Reinforcement Learning, equation 3.9.
    """
    return lambda_returns(r_t, discount_t, v_t, lambda_=1.0, truncated_t=truncated_t)


def lambda_returns(
    r_t: Array,
    discount_t: Array,
    v_t: Array,
    *,
    lambda_: float | Array = 1.0,
    truncated_t: Array | None = None,
) -> Array:
    r"""Returns that trust the critic by a share of 1 - \lambda at every step.

    G_t = r_t + \gamma_t [(1 - \lambda) v_t + \lambda G_{t+1}], the TD target at \lambda = 0.

    Args:
      r_t, discount_t, v_t, truncated_t: as in `discounted_returns`.
      lambda_: in [0, 1], a number.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream, a lambda outside its range. TypeError: integers.

    >>> ones = jnp.ones(3)
    >>> lambda_returns(ones, 0.5 * ones, 8 * ones, lambda_=0.0).tolist()
    [5.0, 5.0, 5.0]

    Reference: Sutton and Barto 2018, equation 12.2 and its recursion, exercise 12.1.
    """
    require_stream(r_t=r_t, discount_t=discount_t, v_t=v_t)
    lambda_ = _mixing(lambda_, r_t)
    share = lambda_ * goes_on(truncated_t, r_t)
    return _backwards(r_t + discount_t * (1 - share) * v_t, discount_t * share)


def n_step_returns(
    r_t: Array, discount_t: Array, v_t: Array, *, n: int, truncated_t: Array | None = None
) -> Array:
    r"""Returns of n rewards and the critic's value of where they led.

    r_t + \gamma_t r_{t+1} + ... + \gamma_t \cdots \gamma_{t+n-1} v_{t+n-1}, with fewer than n rewards where
    the stream is cut before.

    Args:
      r_t, discount_t, v_t, truncated_t: as in `discounted_returns`.
      n: rewards to sum, at least 1; the TD target at 1, `discounted_returns` from T on.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream, n below 1. TypeError: integers, n that is none.

    >>> ones = jnp.ones(3)
    >>> n_step_returns(ones, 0.5 * ones, 8 * ones, n=2).tolist()
    [3.5, 3.5, 5.0]

    Reference: Sutton and Barto 2018, equation 7.1.
    """
    require_stream(r_t=r_t, discount_t=discount_t, v_t=v_t)
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"`n` is {n!r}, expected an integer: how many rewards a return sums.")
    require_number("n", n, 1)
    state = (r_t + discount_t * v_t, r_t, discount_t, v_t, goes_on(truncated_t, r_t))
    # From the T-th on nothing changes any more.
    return jax.lax.scan(_one_more, state, None, length=min(n, r_t.shape[0]) - 1)[0][0]


def gae(
    r_t: Array,
    discount_t: Array,
    v_tm1: Array,
    v_t: Array,
    *,
    lambda_: float | Array = 0.95,
    truncated_t: Array | None = None,
) -> Array:
    r"""Generalised advantage estimates, sums of TD errors discounted by \gamma \lambda.

    A_t = \delta_t + \gamma_t \lambda A_{t+1}. Within an episode v_t is v_tm1 of the next step, so that
    A + v_tm1 = `lambda_returns`, the critic's target.

    CleanRL has one flag for both endings and no value at a time limit: that is discount_t = 0 at both.

    Args:
      r_t, discount_t, v_t, truncated_t: as in `discounted_returns`.
      v_tm1: (T,) float values of the states where the steps begin.
      lambda_: in [0, 1], a number.

    Returns:
      (T,) advantages of the actions a_tm1, not normalised.

    Raises:
      ValueError: shapes that differ or are no stream, a lambda outside its range. TypeError: integers.

    >>> r, v = jnp.array([1.0, 0.0, 0.5]), jnp.array([0.5, 0.4, 0.3, 0.2])
    >>> a = gae(r, jnp.array([0.99, 0.99, 0.0]), v[:-1], v[1:], lambda_=0.95)
    >>> [round(float(x), 5) for x in a]
    [0.97604, 0.0851, 0.2]

    Reference: Schulman et al. 2016, arXiv:1506.02438, equation 16.
    """
    require_stream(r_t=r_t, discount_t=discount_t, v_tm1=v_tm1, v_t=v_t)
    lambda_ = _mixing(lambda_, r_t)
    delta = r_t + discount_t * v_t - v_tm1
    return _backwards(delta, discount_t * lambda_ * goes_on(truncated_t, r_t))


def vtrace(
    r_t: Array,
    discount_t: Array,
    v_tm1: Array,
    v_t: Array,
    rho_tm1: Array,
    *,
    lambda_: float | Array = 1.0,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
    clip_advantage: float = 1.0,
    truncated_t: Array | None = None,
) -> VTrace:
    r"""Targets and advantages from actions that another (an older) policy chose.

    error      E_t = min(\bar\rho, \rho) \delta_t + \gamma_t \lambda min(\bar c, \rho) E_{t+1}
    target     V_t = v_tm1 + E_t
    advantage  min(\bar\rho_A, \rho) (r_t + \gamma_t [\lambda V_{t+1} + (1 - \lambda) v_t] - v_tm1)

    With ratios of 1 the target is that of `lambda_returns`.

    Args:
      r_t, discount_t, v_t, truncated_t: as in `discounted_returns`.
      v_tm1: (T,) float values of the states where the steps begin.
      rho_tm1: (T,) float, \pi(a) / \mu(a) of the policy that learns and the one that acted, at least 0.
      lambda_: in [0, 1], a number.
      clip_rho: \bar\rho above 0, which fixes the policy whose values are learned.
      clip_c: \bar c above 0, which trades variance for speed and leaves the fixed point alone.
      clip_advantage: \bar\rho_A above 0.

    Returns:
      `VTrace`.

    Raises:
      ValueError: shapes that differ or are no stream, a lambda or a clip outside its range.
      TypeError: integers.

    >>> ones = jnp.ones(2)
    >>> vtrace(ones, 0.5 * ones, ones, ones, 9 * ones).target.tolist()
    [1.75, 1.5]

    Reference: Espeholt et al. 2018, arXiv:1802.01561, section 4.1 and equation 1.
    """
    require_stream(r_t=r_t, discount_t=discount_t, v_tm1=v_tm1, v_t=v_t, rho_tm1=rho_tm1)
    lambda_ = _mixing(lambda_, r_t)
    for name, value in (("clip_rho", clip_rho), ("clip_c", clip_c), ("clip_advantage", clip_advantage)):
        require_number(name, value, 0.0, ends="(]")
    share = lambda_ * goes_on(truncated_t, r_t)
    delta = jnp.minimum(rho_tm1, clip_rho) * (r_t + discount_t * v_t - v_tm1)
    error = _backwards(delta, discount_t * share * jnp.minimum(rho_tm1, clip_c))
    target = v_tm1 + error
    ahead = jnp.concatenate([target[1:], v_t[-1:]])
    future = share * ahead + (1 - share) * v_t
    advantage = jnp.minimum(rho_tm1, clip_advantage) * (r_t + discount_t * future - v_tm1)
    return VTrace(target, advantage)


def _mixing(lambda_: float | Array, like: Array) -> Array:
    """`lambda_` as a scalar of the stream's dtype."""
    require_number("lambda_", lambda_, 0.0, 1.0)
    if jnp.ndim(lambda_):
        raise InputError(
            "`lambda_` is not a scalar",
            got=f"shape {jnp.shape(lambda_)}",
            expected="one number for the whole stream",
            cause="a lambda per step, or a batch of streams without jax.vmap",
            fix="vmap over (streams, lambdas) to try several",
        )
    return jnp.asarray(lambda_, like.dtype)


def _backwards(a: Array, b: Array) -> Array:
    """x_t = a_t + b_t x_{t+1} from the last step to the first."""
    return jax.lax.scan(_step, jnp.zeros((), a.dtype), (a, b), reverse=True)[1]


# Outside of what scans them: JAX knows a loop again, outside of `jit`, by the identity of its body.
def _step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
    x = now[0] + now[1] * later
    return x, x


def _one_more(state: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
    """Returns of n + 1 rewards from those of n."""
    future, r_t, discount_t, v_t, more = state
    ahead = jnp.concatenate([future[1:], v_t[-1:]])
    return (r_t + discount_t * jnp.where(more > 0, ahead, v_t), *state[1:]), None
