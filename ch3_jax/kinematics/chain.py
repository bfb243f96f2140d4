r"""One pass along a serial chain for many samples at once: the kernel under `forward` and `jacobian`.

With z_i and p_i the axis and origin of joint i and p the tip, all in the base frame,

  (x, y, z)_i = (x, y, z)_{i-1} Rot_x(a_i) Rot_z(q_i),     p_i = p_{i-1} + (x, y, z)_{i-1} o_i,
  J_i = (z_i x (p - p_i), z_i) revolute,  (z_i, 0) prismatic.

The samples are the last axis throughout, so that each operation is one long loop; nothing is a matrix
product. The joints are a loop of the compiled program, not an unrolled expression: a compiler that fuses an
unrolled chain repeats all of it for each of the 42 outputs, and the optimisation barriers that used to
prevent this are removed by jaxlib 0.10 before it fuses. A loop cannot be repeated.

Sine and cosine of float32 are a range reduction in three parts and two short polynomials; the compiler's
own cost ten times as much on a CPU. Error below 1.2e-7 up to 3e3 rad, 4e-7 at 1e5 rad, beyond it NaN.

References: Whitney (1972) for the geometric Jacobian; Cody and Waite (1980) for the reduction.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array
from ch3_jax.kinematics.canonical import Chain

_LARGEST_ANGLE = 1e5
# pi/2 in three float32 parts; the first two have trailing zeros, so that a whole number times them is exact.
_PI_2 = (1.5703125, 4.837512969970703e-4, 7.549789948768648e-8)
_SIN = (
    -1.66666597127914428711e-1,
    8.33307858556509017944e-3,
    -1.98106907191686332e-4,
    2.60831598097865935e-6,
)


class Walk(NamedTuple):
    """What a pass along the chain gives for T samples.

    Attributes:
      rotation: (3, 3, T), R_base_tip.
      position: (3, T), the tip, m.
      linear: N times (3, T), the linear part of J.
      angular: N times (3, T), the angular part of J.
    """

    rotation: Array
    position: Array
    linear: Array | list[Array]
    angular: Array | list[Array]


def sin_cos(x: Array) -> tuple[Array, Array]:
    """Sine and cosine together.

    Args:
      x: any shape, rad; any dtype but float32 uses the compiler's functions.

    Returns:
      sin x, cos x; NaN in float32 where |x| > 1e5, where the number no longer names an angle.

    >>> s, c = sin_cos(jnp.float32(jnp.pi / 6))
    >>> round(float(s), 6), round(float(c), 6)
    (0.5, 0.866025)
    """
    if x.dtype != jnp.float32:
        return jnp.sin(x), jnp.cos(x)
    half_turns = jnp.round(x * (1 / jnp.pi))
    before = jnp.round(x * (1 / jnp.pi) - 0.5)
    # sin x = (-1)^n sin(x - n pi);  cos x = sin(x + pi/2) = -(-1)^m sin(x - (2 m + 1) pi/2)
    return _sine(x, 2 * half_turns, half_turns), _sine(x, 2 * before + 1, before + 1)


def _sine(x: Array, quarters: Array, sign: Array) -> Array:
    """(-1)^sign sin(x - quarters pi/2), the difference being at most a quarter turn."""
    r = x
    for part in _PI_2:
        r = r - quarters * part
    y = r * r
    sine = r + r * y * (_SIN[0] + y * (_SIN[1] + y * (_SIN[2] + y * _SIN[3])))
    flipped = jax.lax.bitcast_convert_type(sine, jnp.int32) ^ (sign.astype(jnp.int32) << 31)
    return jnp.where(
        jnp.abs(x) <= _LARGEST_ANGLE, jax.lax.bitcast_convert_type(flipped, jnp.float32), jnp.nan
    )


def walk(chain: Chain, q: Array) -> Walk:
    """The pose of the tip and the Jacobian.

    Args:
      chain: constants of N moving joints.
      q: (N, T), rad or m.

    Returns:
      Walk; what is not used costs nothing.
    """
    slides = np.asarray(chain.slides)
    sine, cosine = _angles(chain, q)
    constants = (np.asarray(chain.tilt, q.dtype), np.asarray(chain.shift[:-1], q.dtype))
    slide = q * np.where(slides, 1, 0).astype(q.dtype)[:, None] if slides.any() else None

    def step(frame, joint):
        x, y, z, p = frame
        s, c, tilt, shift, along = joint
        p = p + (shift[0] * x + shift[1] * y + shift[2] * z)
        y, z = tilt[0] * y + tilt[1] * z, tilt[0] * z - tilt[1] * y
        origin = p
        if along is not None:
            p = p + along[None] * z
        s, c = s[None], c[None]
        return (c * x + s * y, c * y - s * x, z, p), (z, origin)

    (x, y, z, p), (axes, origins) = jax.lax.scan(step, _start(chain, q), (sine, cosine, *constants, slide))
    shift, tip = chain.shift[-1], chain.tip
    p = p + (shift[0] * x + shift[1] * y + shift[2] * z)
    rotation = jnp.stack([tip[0][k] * x + tip[1][k] * y + tip[2][k] * z for k in range(3)], 1)
    d = p[None] - origins
    # Written out: the compiler gathers for jnp.cross.
    linear = jnp.stack([axes[:, i] * d[:, j] - axes[:, j] * d[:, i] for i, j in ((1, 2), (2, 0), (0, 1))], 1)
    if slides.any():
        linear = jnp.where(slides[:, None, None], axes, linear)
        axes = jnp.where(slides[:, None, None], 0, axes)
    return Walk(rotation, p, linear, axes)


def walk_staged(chain: Chain, q: Array, rotation: bool = True) -> Walk:
    """The same as `walk`, unrolled, two joints to a stage.

    A stage's results exist once, in memory. Two joints in one repeat a few products and save a third of the
    loads and stores, which is what a pass along the chain costs.

    Args:
      chain: constants of N moving joints.
      q: (N, T), rad or m.
      rotation: False leaves the tip's rotation out (None), and with it what only the rotation depends on.

    Returns:
      Walk, its Jacobian as lists.
    """
    joints, pairs, go = len(chain.slides), ((1, 2), (2, 0), (0, 1)), opaque(q)
    # A last joint whose axis the tip lies on moves neither the tip nor any axis.
    idle = not rotation and not chain.slides[-1] and not any(chain.shift[-1][:2])
    turning = joints - 1 if idle else joints
    sine = cosine = None
    if turning:
        cut = chain._replace(slides=chain.slides[:turning], phase=chain.phase[:turning])
        sine, cosine = stage(go, lambda: _angles(cut, q[:turning]))

    def advance(i, x, y, z, p):
        p = _along(p, chain.shift[i], (x, y, z))
        c, s = chain.tilt[i]
        y, z = _along(None, (c, s), (y, z)), _along(None, (-s, c), (y, z))
        origin = p
        if chain.slides[i]:
            p = p + q[i][None] * z
        if i < turning:
            c, s = cosine[i][None], sine[i][None]
            x, y = c * x + s * y, c * y - s * x
        return (x, y, z, p), (z, origin)

    def both(frame, members):
        seen = []
        for i in members:
            frame, place = advance(i, *frame)
            seen.append(place)
        return frame, seen

    frame = (*_start(chain, q)[:3], jnp.zeros((3, q.shape[1]), q.dtype))
    places = []
    for i in range(0, joints, 2):
        members = range(i, min(i + 2, joints))
        run = functools.partial(both, frame, members)
        frame, seen = run() if i >= turning else stage(go, run)
        places += seen
    x, y, z, p = frame
    tip = chain.tip
    p = stage(go, lambda: _along(p, chain.shift[-1], (x, y, z)))
    turn = (
        jnp.stack([_along(None, [row[k] for row in tip], (x, y, z)) for k in range(3)], 1)
        if rotation
        else None
    )
    linear, angular = [], []
    for (axis, origin), slides in zip(places, chain.slides, strict=True):
        d = p - origin
        linear.append(axis if slides else jnp.stack([axis[i] * d[j] - axis[j] * d[i] for i, j in pairs]))
        angular.append(jnp.zeros_like(axis) if slides else axis)
    return Walk(turn, p, linear, angular)


def opaque(q: Array) -> Array:
    """True for every q (N, T), but nothing that a compiler looks for."""
    integer = jnp.int32 if q.dtype == jnp.float32 else jnp.int64
    return (jax.lax.bitcast_convert_type(q[0, 0], integer) | 1) != 0


def stage(go: Array, function):
    """What `function` gives, computed once and kept: fusion does not look into branches."""
    shapes = jax.eval_shape(function)
    return jax.lax.cond(
        go, function, lambda: jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)
    )


def _along(start: Array | None, weights, directions) -> Array:
    """start + sum of weights times directions, without the products by 0 and 1."""
    total = start
    for weight, direction in zip(weights, directions, strict=True):
        if weight != 0:
            term = direction if weight == 1 else -direction if weight == -1 else weight * direction
            total = term if total is None else total + term
    return total


def _angles(chain: Chain, q: Array) -> tuple[Array, Array]:
    """Sine and cosine of each joint's whole angle: its coordinate, if it turns, and its constant part."""
    slides = np.asarray(chain.slides)
    phase = np.asarray(chain.phase, q.dtype)[:, :, None]
    sine, cosine = sin_cos(jnp.where(slides[:, None], 0, q) if slides.any() else q)
    if np.any(phase[:, 1] != 0) or np.any(phase[:, 0] != 1):
        # The addition theorem keeps quarter turns exact, where adding pi/2 to q would round it.
        sine, cosine = sine * phase[:, 0] + cosine * phase[:, 1], cosine * phase[:, 0] - sine * phase[:, 1]
    return sine, cosine


def _start(chain: Chain, q: Array) -> tuple[Array, Array, Array, Array]:
    c, s = chain.start
    columns = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1], [0, 0, 0]], q.dtype)
    return tuple(jnp.broadcast_to(column[:, None], (3, q.shape[1])) for column in columns)
