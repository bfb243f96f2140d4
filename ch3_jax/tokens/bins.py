"""Bins: a continuous action as one of K classes per dimension, and back.

A dimension is cut at K - 1 inner edges e_1 < ... < e_{K-1}, and

  encode(x) = #{k : e_k <= x},   decode(k) = c_k, the centre of bin k.

Values below the range fall into the first bin and values above it into the last, which therefore
includes the right end of the range. Uniform bins of width w have e_k = low + k w and
c_k = low + (k + 1/2) w.

Float32: edges are rounded *up* to float32, since for a float32 x the exact edge e <= x if and only
if its upward rounding <= x. So every float32 value, also one that lies on an edge, gets the token
that float64 arithmetic would give (XLA reads subnormals, below 1.2e-38, as 0). For uniform bins
arithmetic finds the nearest edge and one comparison with it decides; bins of any other kind take a
binary search.

Peers differ, and each difference is a preset: RT-1 truncates and decodes to left edges, OpenVLA has
256 codes but 255 centres and numbers them downwards, openpi gives -1 below the range.

Wrong input: a value that is not finite is encoded as the token after the last (`bins.invalid`), and
a token that no bin has is decoded as NaN inside a compiled function and raises outside of one.
JAX's own indexing would have clamped both in silence.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Array

RULES = ("minmax", "quantile", "equal_mass")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bins:
    """The cuts of A dimensions into K bins each: a pytree, its integers static.

    Attributes:
      edge: (A, K + 1) float32, ascending, edge[:, 0] = -inf and edge[:, K] = inf; bin k holds
        edge[k] <= x < edge[k + 1].
      centre: (A, K) float32, what bin k decodes to.
      origin, rate: (A,) float32; inner edge i lies near (edge - origin) rate = i where `uniform`.
      uniform: whether rounding that finds the nearest edge.
      first: token of bin 0.
      step: +1, or -1 where tokens count downwards (OpenVLA).
    """

    edge: Array
    centre: Array
    origin: Array
    rate: Array
    uniform: bool = dataclasses.field(default=True, metadata={"static": True})
    first: int = dataclasses.field(default=0, metadata={"static": True})
    step: int = dataclasses.field(default=1, metadata={"static": True})

    @property
    def count(self) -> int:
        """K, bins of a dimension."""
        return self.centre.shape[-1]

    @property
    def dims(self) -> int:
        """A, dimensions."""
        return self.centre.shape[0]

    @property
    def invalid(self) -> int:
        """The token of a value that is not finite."""
        return self.first + self.step * self.count


def uniform(low, high, bins: int = 256) -> Bins:
    """K bins of equal width between `low` and `high`.

    A constant dimension, low == high = c, gets bins of width max(|c|, 1) / K with c in the centre
    of bin K // 2: dividing by its width of zero would put NaN into every token.

    Args:
      low, high: (A,) finite, low <= high, in the units of the action.
      bins: K, at least 1.

    Returns:
      `Bins` with A dimensions.

    Raises:
      ValueError: bins below 1, ends that are not finite, low above high (names the dimension).

    >>> b = uniform([0.0], [1.0], 4)
    >>> encode(b, jnp.array([[-9.0], [0.0], [0.25], [1.0], [9.0]])).ravel().tolist()
    [0, 0, 1, 3, 3]
    >>> decode(b, jnp.array([[0], [3]])).ravel().tolist()
    [0.125, 0.875]
    """
    low, high = _range(low, high)
    _count(bins)
    constant = low == high
    width = np.where(constant, np.maximum(np.abs(low), 1.0) / bins, (high - low) / bins)
    start = np.where(constant, low - (bins // 2 + 0.5) * width, low)
    inner = start[:, None] + np.arange(1, bins) * width[:, None]
    centre = start[:, None] + (np.arange(bins) + 0.5) * width[:, None]
    centre[constant, bins // 2] = low[constant]
    return _make(inner, centre, width, snap=True)


def equal_mass(sample, bins: int = 256) -> Bins:
    """K bins that hold as many values of `sample` each as ties allow.

    Inner edges are the k/K quantiles ("linear"). A bin decodes to the mean of the values in it,
    which has the least squared error, or to its middle if it holds none. Where one value fills
    several bins, the last of them gets it and the others stay empty.

    Args:
      sample: (N, A) finite, N >= 1.
      bins: K, at least 1.

    Raises:
      ValueError: bins below 1, an empty sample, a value that is not finite (dimension and row).

    >>> b = equal_mass(np.arange(8.0)[:, None], 4)
    >>> encode(b, jnp.arange(8.0)[:, None]).ravel().tolist()
    [0, 0, 1, 1, 2, 2, 3, 3]
    """
    sample = np.asarray(sample)
    _count(bins)
    if sample.ndim != 2 or not sample.size:
        raise ValueError(f"`sample` has shape {sample.shape}, expected (N, A) with at least one row.")
    if not np.isfinite(sample).all():
        row, d = np.argwhere(~np.isfinite(sample))[0]
        raise ValueError(f"`sample` is {sample[row, d]} in dimension {d} at row {row}, expected finite.")
    dims = sample.shape[1]
    inner, centre = np.empty((dims, bins - 1)), np.empty((dims, bins))
    for d in range(dims):
        values = np.sort(sample[:, d]).astype(np.float64)
        rank = np.arange(1, bins) / bins * (len(values) - 1)
        left = rank.astype(np.int64)
        right = np.minimum(left + 1, len(values) - 1)
        inner[d] = values[left] + (values[right] - values[left]) * (rank - left)
        centre[d] = _bin_means(values, inner[d])
    return _make(inner, centre, None, snap=True)


def make_bins(rule: str, bins: int = 256, *, minimum=None, maximum=None, q01=None, q99=None, sample=None):
    """Bins by a named rule from plain arrays.

    Args:
      rule: "minmax" needs `minimum` and `maximum`; "quantile" needs `q01` and `q99`, and takes
        `minimum` and `maximum`, if they are given, for a dimension with q01 == q99 that does move;
        "equal_mass" needs `sample` (N, A).
      bins: K.
      minimum, maximum, q01, q99: (A,).

    Raises:
      ValueError: an unknown rule, with the valid ones, or a missing array.
    """
    needs = {"minmax": {"minimum": minimum, "maximum": maximum}, "quantile": {"q01": q01, "q99": q99}}
    needs["equal_mass"] = {"sample": sample}
    if rule not in needs:
        raise ValueError(f"bin rule {rule!r} is not one of: {', '.join(RULES)}.")
    missing = [name for name, value in needs[rule].items() if value is None]
    if missing:
        raise ValueError(f"bin rule {rule!r} needs `{'` and `'.join(missing)}`.")
    if rule == "equal_mass":
        return equal_mass(sample, bins)
    if rule == "minmax":
        return uniform(minimum, maximum, bins)
    low, high = _range(q01, q99)
    if minimum is not None and maximum is not None:
        least, most = _range(minimum, maximum)
        low, high = np.where(low == high, least, low), np.where(low == high, most, high)
    return uniform(low, high, bins)


def rt1(low, high, vocabulary: int = 256) -> Bins:
    """RT-1's quantizer: token = trunc((clip(x) - low) / (high - low) * (V - 1)).

    Only x == high gets token V - 1, and tokens decode to left edges, so a round trip lowers a value
    by 1 / (2 (V - 1)) of the range on average. RT-1 computes in float32, where a value within one
    rounding of an edge may fall on its other side; here the edges are exact.

    References: google-research/robotics_transformer, tokenizers/action_tokenizer.py.

    >>> encode(rt1([-1.0], [1.0]), jnp.array([[-0.5], [0.0], [0.999], [1.0]])).ravel().tolist()
    [63, 127, 254, 255]
    """
    low, high = _range(low, high)
    _count(vocabulary, least=2)
    if np.any(low == high):
        d = int(np.argmax(low == high))
        raise ValueError(f"RT-1's quantizer divides by the range, and dimension {d} is always {low[d]:g}.")
    width = (high - low) / (vocabulary - 1)
    # i / (V - 1) first, so that the last edge is `high` itself.
    left = low[:, None] + (high - low)[:, None] * (np.arange(vocabulary) / (vocabulary - 1))
    left[:, -1] = high
    return _make(left[:, 1:], left, width, snap=True)


def openvla(dims: int, vocabulary: int = 32000) -> Bins:
    """OpenVLA's tokenizer of normalised actions: the last 256 ids of a vocabulary, downwards.

    256 edges from -1 to 1 make 255 bins; digitize gives 1 to 256, the id is V - that, and 256
    (x >= 1) decodes to the same centre as 255. So 256 codes have 255 values.

    References: openvla/openvla, prismatic/vla/action_tokenizer.py.

    >>> b = openvla(1)
    >>> encode(b, jnp.array([[-1.0], [0.0], [1.0]])).ravel().tolist()
    [31999, 31872, 31744]
    """
    _count(vocabulary, least=257)
    edge = np.linspace(-1.0, 1.0, 256)
    middle = (edge[1:] + edge[:-1]) / 2
    centre = np.append(middle, middle[-1])
    bins = _make(*_repeat(dims, edge[1:], centre), np.full(dims, 2 / 255), snap=False)
    return dataclasses.replace(bins, first=vocabulary - 1, step=-1)


def octo(dims: int, low: float = -1.0, high: float = 1.0, bins: int = 256) -> Bins:
    """Octo's `BinTokenizer`: uniform bins that decode to centres.

    References: octo-models/octo, octo/model/components/tokenizers.py.
    """
    return uniform(*_repeat(dims, low, high), bins)


def pi05_state(dims: int) -> Bins:
    """openpi's discretised state: 256 left edges from -1, and token -1 below the range.

    openpi writes the tokens into the prompt and never decodes them; here -1 decodes to -1.0.

    References: Physical-Intelligence/openpi, src/openpi/models/tokenizer.py.

    >>> encode(pi05_state(1), jnp.array([[-1.2], [-1.0], [0.0], [1.2]])).ravel().tolist()
    [-1, 0, 128, 255]
    """
    edge = np.linspace(-1.0, 1.0, 257)
    centre = np.concatenate([[-1.0], (edge[1:] + edge[:-1]) / 2])
    bins = _make(*_repeat(dims, edge[:-1], centre), np.full(dims, 2 / 256), snap=False)
    return dataclasses.replace(bins, first=-1)


def encode(bins: Bins, action: Array) -> Array:
    """Tokens of actions; cheap inside a compiled step.

    Args:
      bins: of A dimensions.
      action: (..., A), in the units that the bins were made for.

    Returns:
      (..., A) int32; `bins.invalid` where the action is not finite.

    Raises:
      ValueError: a last axis that is not A.
    """
    x = jnp.asarray(action, jnp.float32)
    _last_axis(bins, x, "action")
    return _encode(bins, x)


def decode(bins: Bins, token: Array) -> Array:
    """The centres of the bins of tokens.

    Args:
      bins: of A dimensions.
      token: (..., A) integers.

    Returns:
      (..., A) float32; in a compiled function NaN where a token belongs to no bin.

    Raises:
      ValueError: a last axis that is not A; outside of compiled functions, a token of no bin.
      TypeError: tokens that are not integers.
    """
    token = jnp.asarray(token)
    if not jnp.issubdtype(token.dtype, jnp.integer):
        raise TypeError(f"`token` has dtype {token.dtype}, expected integers, as `encode` returns.")
    _last_axis(bins, token, "token")
    # Unsigned tokens would wrap around below zero.
    index = (token.astype(jnp.int32) - bins.first) * bins.step
    known = (index >= 0) & (index < bins.count)
    if not isinstance(known, jax.core.Tracer) and not bool(jnp.all(known)):
        ends = sorted((bins.first, bins.first + bins.step * (bins.count - 1)))
        wrong = int(np.asarray(token)[~np.asarray(known)][0])
        raise ValueError(f"token {wrong} belongs to no bin, expected {ends[0]} to {ends[1]}.")
    centre = _pick(bins.centre, jnp.clip(index, 0, bins.count - 1))
    return jnp.where(known, centre, jnp.nan)


@jax.jit
def _encode(bins: Bins, x: Array) -> Array:
    if bins.uniform:
        lead = (1,) * (x.ndim - 1) + (-1,)
        nearest = jnp.round((x - jnp.reshape(bins.origin, lead)) * jnp.reshape(bins.rate, lead))
        # Clipped as a float: converting a float beyond int32 is undefined.
        near = jnp.clip(nearest + 1, 1, max(bins.count - 1, 1)).astype(jnp.int32)
        index = near - (x < _pick(bins.edge, near)).astype(jnp.int32)
    else:
        index = jnp.zeros(x.shape, jnp.int32)
        for bit in reversed(range((bins.count - 1).bit_length())):
            ahead = jnp.minimum(index + 2**bit, bins.count)
            index = jnp.where(x >= _pick(bins.edge, ahead), ahead, index)
    index = jnp.where(jnp.isfinite(x), index, bins.count)
    return bins.first + bins.step * index


def _make(inner: np.ndarray, centre: np.ndarray, width: np.ndarray | None, *, snap: bool) -> Bins:
    """`Bins` of float64 edges (A, K - 1) and centres (A, K), each rounded as its use needs."""
    dims = len(centre)
    up = _round_up(inner)
    ends = np.full((dims, 1), np.inf, np.float32)
    edge = np.concatenate([-ends, up, ends], axis=1)
    centre = centre.astype(np.float32)
    if snap:
        # decode(k) must be encoded as k: rounding must not carry a centre out of its bin.
        inside = edge[:, :-1] < edge[:, 1:]
        below = np.nextafter(edge[:, 1:], np.float32(-np.inf))
        centre = np.where(inside, np.clip(centre, edge[:, :-1], below), centre)
    zeros = np.zeros(dims, np.float32)
    bins = Bins(edge, centre, zeros, zeros, uniform=False)
    if width is None:
        return bins
    tiny = np.finfo(np.float32).tiny
    if np.any(width < tiny):
        return bins
    origin = inner[:, 0] if inner.shape[1] else np.zeros(dims)
    bins = dataclasses.replace(bins, origin=origin.astype(np.float32), rate=(1 / width).astype(np.float32))
    return dataclasses.replace(bins, uniform=_arithmetic_holds(bins))


def _arithmetic_holds(bins: Bins) -> bool:
    """Whether (x - origin) rate finds the nearest edge: it must be near i at the i-th inner edge.

    It is not where the range is narrow against its distance from zero, as in [1e6, 1e6 + 1]:
    float32 has only 16 numbers there.
    """
    edge = bins.edge[:, 1:-1]
    found = (edge - bins.origin[:, None]) * bins.rate[:, None]
    return bool(np.all(np.abs(found - np.arange(bins.count - 1)) < 0.25))


def _bin_means(values: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The mean of the sorted `values` between successive edges; the middle of an empty bin."""
    cut = np.concatenate([[0], np.searchsorted(values, inner, side="left"), [len(values)]])
    edge = np.concatenate([values[:1], inner, values[-1:]])
    centre = (edge[1:] + edge[:-1]) / 2
    held = cut[1:] > cut[:-1]
    centre[held] = np.add.reduceat(values, cut[:-1][held]) / (cut[1:] - cut[:-1])[held]
    return centre


def _round_up(x: np.ndarray) -> np.ndarray:
    """The smallest float32 that is not below the float64."""
    near = x.astype(np.float32)
    return np.where(near.astype(np.float64) < x, np.nextafter(near, np.float32(np.inf)), near)


def _range(low, high) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if low.ndim != 1 or low.shape != high.shape or not len(low):
        raise ValueError(f"`low` {low.shape} and `high` {high.shape}: expected two arrays (A,), A >= 1.")
    for name, end in (("low", low), ("high", high)):
        if not np.isfinite(end).all():
            d = int(np.argmin(np.isfinite(end)))
            raise ValueError(f"`{name}` is {end[d]} in dimension {d}, expected a finite number.")
    if np.any(low > high):
        d = int(np.argmax(low > high))
        raise ValueError(f"dimension {d} has low {low[d]:g} above high {high[d]:g}; were they exchanged?")
    return low, high


def _count(bins: int, least: int = 1) -> None:
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer):
        raise TypeError(f"the number of bins is {bins!r}, expected an integer.")
    if bins < least:
        raise ValueError(f"the number of bins is {bins}, expected at least {least}.")


def _repeat(dims: int, *rows) -> list[np.ndarray]:
    """Each row once for every one of `dims` dimensions."""
    _count(dims)
    return [np.repeat(np.asarray(row, np.float64)[None], dims, axis=0) for row in rows]


def _pick(table: Array, index: Array) -> Array:
    """table[a, index[..., a]] for a (A, M) table, as one gather from a flat array (3x faster)."""
    dims, size = table.shape
    row = jnp.reshape(jnp.arange(dims, dtype=jnp.int32) * size, (1,) * (index.ndim - 1) + (-1,))
    return jnp.ravel(jnp.asarray(table)).at[index + row].get(mode="promise_in_bounds")


def _last_axis(bins: Bins, x: Array, name: str) -> None:
    if not x.ndim or x.shape[-1] != bins.dims:
        raise ValueError(
            f"`{name}` has shape {x.shape}, expected (..., {bins.dims}): A action dimensions. Usual fix: "
            "make the bins from the same action, or add the last axis."
        )
