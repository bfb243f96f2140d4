r"""Losses that learn from recorded actions alone, and never ask a critic about any other.

  AWR   -\min(\exp(A / \beta), w_{max}) \log \pi(a)
  IQL   V is the \tau-expectile of Q' over the actions of the data, Q learns r + \gamma V(s'),
        and the policy is AWR on Q' - V

A critic that is asked about actions that nobody took answers with what it never learned, and a maximum over
its answers finds the worst error. The two ways out here: weigh what was done, or take the upper end of it.
"""

import jax
import jax.numpy as jnp

from ch3_jax.base import Array
from ch3_jax.losses.streams import require_critics, require_number, require_stream


def awr(log_prob_tm1: Array, advantage_tm1: Array, *, temperature: float, max_weight: float) -> Array:
    r"""Advantage-weighted regression: cloning, with better actions weighing more.

    -\min(\exp(A / \beta), w_{max}) \log \pi(a)

    Args:
      log_prob_tm1: (T,) float, of the recorded actions, differentiable.
      advantage_tm1: (T,) float; no gradient.
      temperature: beta above 0, in the units of the return: towards 0 only the best actions count, towards
        infinity all do, which is cloning. AWR 0.05 (after normalising); IQL writes 1 / beta, 3 on locomotion.
      max_weight: above 0; AWR 20, IQL 100.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream, a number outside its range. TypeError: integers.

    >>> awr(jnp.array([-1.0, -1.0]), jnp.array([0.0, 9.0]), temperature=1.0, max_weight=20.0).tolist()
    [1.0, 20.0]

    References:
      Peng et al. 2019, arXiv:1910.00177, equation 3. Kostrikov et al. 2022, arXiv:2110.06169, equation 7.
    """
    require_stream(log_prob_tm1=log_prob_tm1, advantage_tm1=advantage_tm1)
    require_number("temperature", temperature, 0.0, ends="()")
    require_number("max_weight", max_weight, 0.0, ends="()")
    # exp may overflow to inf, which the minimum takes back; there is no gradient that could see it.
    weight = jnp.minimum(jnp.exp(jax.lax.stop_gradient(advantage_tm1) / temperature), max_weight)
    return -weight * log_prob_tm1


def iql_value(v_tm1: Array, q_tm1: Array, *, expectile: float) -> Array:
    r"""The value as an expectile of the recorded actions' values, |\tau - 1[u < 0]| u^2 with u = Q' - V.

    Half is the mean; towards 1 it is the best action in the data, without asking for any other action.

    Args:
      v_tm1: (T,) float, differentiable.
      q_tm1: (T,) float, the smaller of the target critics at the recorded actions; no gradient.
      expectile: tau in (0, 1); 0.7 on locomotion, 0.9 on antmaze in the paper.

    Returns:
      (T,).

    Raises:
      ValueError: shapes that differ or are no stream, an expectile outside its range. TypeError: integers.

    >>> iql_value(jnp.zeros(2), jnp.array([2.0, -2.0]), expectile=0.75).tolist()
    [3.0, 1.0]

    Reference: Kostrikov et al. 2022, arXiv:2110.06169, equation 5.
    """
    require_stream(v_tm1=v_tm1, q_tm1=q_tm1)
    require_number("expectile", expectile, 0.0, 1.0, ends="()")
    error = jax.lax.stop_gradient(q_tm1) - v_tm1
    return jnp.where(error < 0, 1 - expectile, expectile) * jnp.square(error)


def iql_critics(q_tm1: Array, r_t: Array, discount_t: Array, v_t: Array) -> Array:
    r"""IQL's critics, y = r + \gamma V(s'): no action is drawn that the data does not have.

    Args:
      q_tm1: (T, C) float values of the recorded actions, differentiable.
      r_t, discount_t: (T,) float; discount 0 at a termination.
      v_t: (T,) float, of the states reached; no gradient.

    Returns:
      (T, C), half the squared errors (the paper's are without the half).

    Raises:
      ValueError: shapes that differ or are no stream. TypeError: integers.

    >>> one = jnp.ones(1)
    >>> iql_critics(jnp.array([[0.0, 1.0]]), one, 0.5 * one, 2 * one).tolist()
    [[2.0, 0.5]]

    Reference: Kostrikov et al. 2022, arXiv:2110.06169, equation 6.
    """
    require_stream(r_t=r_t, discount_t=discount_t, v_t=v_t)
    require_critics(r_t, q_tm1=q_tm1)
    target = jax.lax.stop_gradient(r_t + discount_t * v_t)
    return 0.5 * jnp.square(target[:, None] - q_tm1)
