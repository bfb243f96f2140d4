r"""One stream of time: what the reinforcement losses are handed, and how it is cut.

A step of a stream is one transition. What belongs to its beginning ends in `_tm1`, what to its end in `_t`:

  s_tm1 --a_tm1--> r_t, discount_t, s_t

The two ways in which an episode ends are two arguments:

| | `discount_t` | `truncated_t` | what is seen of the future |
| --- | --- | --- | --- |
| goes on | gamma | False | the next step of the stream |
| terminated (fell, or solved) | 0 | either | nothing: there is none |
| truncated (a time limit, a reset) | gamma | True | `v_t`, the value of the state in which it was cut |

The next step of the stream then belongs to another episode. So `v_t` must be the value of the state that was
*reached*, before any reset: where environments reset themselves this is not `v_tm1` of the next step.
The last step of a stream is always cut: nothing of the stream comes after it.

A batch is `jax.vmap` of these functions, so that no axis can be taken for another.
"""

import jax.numpy as jnp

from ch3_jax import checks
from ch3_jax.base import Array
from ch3_jax.errors import InputError

FIX = "one stream of time at a time: jax.vmap over a batch of them; values are (T,), not (T, 1)"


def require_stream(**arrays: Array) -> None:
    """Refuses what is not floating point of one shape (T,), T at least 1.

    Raises:
      ValueError: another rank, another length, an empty stream. TypeError: integers.

    >>> require_stream(r_t=jnp.zeros(3), discount_t=jnp.ones(3))
    """
    checks.floating(**arrays)
    checks.shapes(fix=FIX, **{name: (array, "T") for name, array in arrays.items()})
    name, first = next(iter(arrays.items()))
    if not first.shape[0]:
        raise InputError(
            f"`{name}` is an empty stream",
            got=f"shape {first.shape}",
            expected="(T,) with at least one step",
            cause="an episode that ended before its first step, or a slice that starts behind the end",
            fix="leave that stream out",
        )


def require_critics(stream: Array, **values: Array) -> None:
    """Refuses values of C critics that are not floating point (T, C), T as in the stream.

    Raises:
      ValueError: another shape, as (T,) of one critic. TypeError: integers.

    >>> require_critics(jnp.zeros(3), q_tm1=jnp.zeros((3, 2)))
    """
    checks.floating(**values)
    fix = "jnp.stack([q1, q2], axis=-1); one critic alone is (T, 1)"
    checks.shapes(fix=fix, r_t=(stream, "T"), **{name: (q, "T C") for name, q in values.items()})


def goes_on(truncated_t: Array | None, like: Array) -> Array:
    """1 where the next step of the stream continues this one, 0 where it is cut and at the end.

    Args:
      truncated_t: (T,) bool, or None for a stream that is cut at its end only.
      like: (T,) whose dtype the answer has.

    Raises:
      ValueError: another length. TypeError: anything but booleans.

    >>> goes_on(jnp.array([False, True, False]), jnp.zeros(3)).tolist()
    [1.0, 0.0, 0.0]
    """
    more = jnp.ones_like(like).at[-1].set(0)
    if truncated_t is None:
        return more
    if truncated_t.dtype != jnp.bool_:
        raise TypeError(
            f"`truncated_t` has dtype {truncated_t.dtype}, expected bool: True where the stream is cut while "
            "the task went on. Usual fix: truncated_t.astype(bool)."
        )
    checks.shapes(fix=FIX, r_t=(like, "T"), truncated_t=(truncated_t, "T"))
    return jnp.where(truncated_t, jnp.zeros_like(more), more)


def require_number(
    name: str, value: float, low: float, high: float = float("inf"), *, ends: str = "[]"
) -> None:
    """Refuses a number outside of its range, where the number is at hand; an array passes unseen.

    Args:
      name: of the argument.
      value: a Python number, or an array (a learned coefficient).
      low, high: the range.
      ends: "[]" both ends belong to it, "()" neither, "(]" and "[)" one.

    Raises:
      InputError: names the argument, its value and the range.

    >>> require_number("lambda_", 0.95, 0.0, 1.0)
    """
    if not isinstance(value, int | float):
        return
    above = low <= value if ends[0] == "[" else low < value
    below = value <= high if ends[1] == "]" else value < high
    # NaN fails both comparisons.
    if not (above and below):
        raise InputError(
            f"`{name}` is outside of its range",
            got=value,
            expected=f"{ends[0]}{low:g}, {high:g}{ends[1]}",
            cause="another convention (a percentage, a logarithm, an inverse), or arguments exchanged",
            fix=f"pass a `{name}` in that range",
        )
