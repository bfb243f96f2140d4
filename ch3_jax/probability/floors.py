r"""Theoretical minima of the losses on data whose law is known.

A loss curve says little by itself: 2.7 nats may be a model that has learned everything or one that
has learned nothing. On generated data the best attainable value is known, and the curve is read
against it. Here the law is, per action dimension,

    action = m + o + s n,    m a function of the observation,  n ~ N(0, 1),

with `o` one of equally likely offsets (demonstrators) that the observation does not reveal. The
clean action m is either N(0, tau^2), or a weighted sum of independent uniform variables.

*Cross-entropy over bins.* Nothing beats the Bayes posterior p_k(m) = P(action in bin k | m), whose
cross-entropy is its entropy, so the floor is the mean of that entropy over observations,

    floor = E_m [ -sum_k p_k(m) ln p_k(m) ],

where the outer bins take the tails, as an encoder that clips does. Bins much narrower than s give
the differential entropy less the log width, 1/2 ln(2 pi e s^2) - ln(width); that limit is exact for
no finite number of bins, so the expectation is done by quadrature.

*Quadrature.* The entropy as a function of m is smooth only on the scale of s: around every edge it
has a bump of width s, and between wide bins it is flat. Gauss-Hermite nodes are spread over tau and
step over the bumps. The trapezoidal rule with step min(s, tau) / 4 resolves them, and because the
integrand is smooth and dies out at both ends its error falls faster than any low power of the step:
halving the step changes the result by less than 1e-9 (a test shows it).

*Squared error.* The best prediction is the conditional mean, and what is left is the conditional
variance, s^2 + var(o): for two modes a distance d apart, s^2 + d^2 / 4.

References:
  Cover and Thomas, 2006, Elements of Information Theory, theorems 2.6.3 and 8.3.1.
  Trefethen and Weideman, 2014, The exponentially convergent trapezoidal rule, SIAM Review 56(3).
  Feller, 1971, An Introduction to Probability Theory and Its Applications II, chapter XV.
"""

import numpy as np
from scipy import special

from ch3_jax.errors import InputError

_REACH = 9.0  # standard deviations kept on both sides; 2e-19 of a Gaussian lies beyond
_NODES_PER_STD = 4.0
_TERMS = 100_000  # of the Fourier series of a density; more means too few weights for it to converge
_CHUNK = 1 << 19  # probabilities held at once, 4 MiB in float64


def uniform_floor(bins: int) -> float:
    """Cross-entropy of the best guess when bins are uniform and unrelated to the observation.

    floor = ln K

    Args:
      bins: K, the number of bins, at least 1.

    Returns:
      The floor in nats.

    Raises:
      InputError: `bins` is not a whole number of 1 or more.

    Example:
      >>> round(uniform_floor(256), 3)
      5.545
    """
    if bins < 1 or bins != int(bins):
        raise InputError(
            "a uniform choice needs at least one bin",
            got=bins,
            expected="a whole number of 1 or more",
            cause="a count of bins that was computed from an empty set",
            fix="pass the K of the encoder, 256 in the chapter",
        )
    return float(np.log(int(bins)))


def mse_floor(noise_std: np.ndarray, mode_distance: np.ndarray | float = 0.0) -> np.ndarray:
    """Smallest mean squared error per dimension: the variance that the observation leaves.

    floor_a = s_a^2 + d_a^2 / 4

    Two equally likely modes at +-d/2 have variance d^2 / 4. (The chapter's "half the squared
    distance" is twice too much.)

    Args:
      noise_std: (A,) s, standard deviation of the noise, in the action's units.
      mode_distance: d, a number that holds for dimension 0 alone, as in the two-demonstrator data,
        or (A,) one distance per dimension; same units.

    Returns:
      (A,) float64, in squared units of the action.

    Raises:
      InputError: a negative or non-finite input, or shapes that differ.

    Example:
      >>> mse_floor([0.5, 0.5], 2.0).tolist()
      [1.25, 0.25]
    """
    noise = _vector("noise_std", noise_std)
    distance = np.asarray(mode_distance, np.float64)
    if distance.ndim == 0:
        distance = np.where(np.arange(len(noise)) == 0, distance, 0.0)
    distance = _vector("mode_distance", distance, length=len(noise))
    return noise**2 + distance**2 / 4


def bin_probabilities(
    edges: np.ndarray, mean: np.ndarray, noise_std: float, offsets: np.ndarray | None = None
) -> np.ndarray:
    """Exact Bayes posterior over the bins of one action dimension, given the clean mean.

    p_k(m) = mean over o of [ Phi((e_{k+1} - m - o) / s) - Phi((e_k - m - o) / s) ],
    with e_0 = -inf and e_K = +inf in place of the outer edges.

    Args:
      edges: (K + 1,) bin edges, not decreasing, in the action's units.
      mean: (...) clean means m, same units.
      noise_std: s, above 0, same units.
      offsets: (M,) equally likely offsets o, or None for a single mode.

    Returns:
      (..., K) float64 that sums to 1 over the last axis.

    Raises:
      InputError: edges that decrease or are not finite, noise of 0 or less.

    Example:
      >>> bin_probabilities([-1.0, 0.0, 1.0], 0.0, 0.5).tolist()
      [0.5, 0.5]
    """
    inner = _edges(edges)[1:-1]
    spread = _offsets(offsets)
    centre = np.asarray(mean, np.float64)[..., None]
    _positive("noise_std", noise_std)
    total = sum(_differences(special.ndtr((inner - centre - o) / noise_std)) for o in spread)
    return total / len(spread)


def binned_gaussian_entropy(
    edges: np.ndarray, mean: np.ndarray, noise_std: float, offsets: np.ndarray | None = None
) -> np.ndarray:
    """Entropy of a Gaussian (or of equally likely shifted copies of it) seen through bins.

    H(m) = -sum_k p_k(m) ln p_k(m)

    Averaged over the clean means of a given set of observations it is the floor of the
    cross-entropy on just these observations, whatever their law.

    Args:
      edges: (K + 1,) bin edges, not decreasing, in the action's units; the outer bins take the tails.
      mean: (...) clean means m, same units.
      noise_std: s, above 0, same units.
      offsets: (M,) equally likely offsets, or None for a single mode.

    Returns:
      (...) float64, nats.

    Raises:
      InputError: edges that decrease or are not finite, a mean that is not, noise of 0 or less.

    Example:
      A mean on the middle edge of two bins is a fair coin, ln 2 = 0.693:
      >>> round(float(binned_gaussian_entropy([-1.0, 0.0, 1.0], 0.0, 0.5)), 3)
      0.693
    """
    inner = _edges(edges)[1:-1]
    spread = _offsets(offsets)
    means = np.asarray(mean, np.float64)
    if not np.isfinite(means).all():
        raise _refusal("mean", means, "finite numbers")
    _positive("noise_std", noise_std)
    return _entropies(inner, means.reshape(-1), noise_std, spread).reshape(means.shape)


def uniform_sum_density(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Density of sum_s w_s u_s with independent u_s ~ U(-1, 1).

    f(x) = (1 / pi) int_0^inf prod_s sinc(w_s t) cos(t x) dt,   sinc(z) = sin(z) / z

    The density vanishes beyond W = sum |w_s|, so the trapezoidal rule with step pi / W has no
    aliasing error at all (Poisson's summation formula); the sum ends where the product is below 1e-16.

    Args:
      x: (...) where to evaluate.
      weights: (S,) w. Six or more of similar size: the fewer, the slower the product decays.

    Returns:
      (...) float64, 0 beyond W.

    Raises:
      InputError: weights that are not finite, or too few of them for the sum to end.

    Example:
      Twelve uniforms of variance 1/12 are nearly a unit Gaussian, whose density at 0 is 0.3989:
      >>> round(float(uniform_sum_density(0.0, [0.5] * 12)), 4)
      0.3939

    References:
      Feller, 1971, chapter XV, Fourier inversion and Poisson's formula.
    """
    sizes = np.abs(np.asarray(weights, np.float64))
    sizes = _vector("weights", sizes[sizes > 0])
    support = sizes.sum()
    step = np.pi / support
    last = next((2**p for p in range(4, 40) if _decay(sizes, step * 2**p) < 1e-16), _TERMS + 1)
    if last > _TERMS:
        raise _refusal("weights", weights, "six or more numbers of similar size")
    t = step * np.arange(last + 1)
    terms = np.sinc(sizes * t[:, None] / np.pi).prod(-1)
    terms[0] /= 2
    points = np.asarray(x, np.float64)
    density = np.cos(points[..., None] * t) @ terms * (step / np.pi)
    return np.where(np.abs(points) < support, np.maximum(density, 0.0), 0.0)


def _decay(sizes: np.ndarray, t: float) -> float:
    """Bound of prod_s |sinc(w_s t)|."""
    return float(np.exp(-np.log(np.maximum(sizes * t, 1.0)).sum()))


def cross_entropy_floor(
    edges: np.ndarray,
    mean_std: np.ndarray,
    noise_std: np.ndarray,
    offsets: np.ndarray | None = None,
    uniform_weights: np.ndarray | None = None,
    *,
    nodes_per_std: float = _NODES_PER_STD,
) -> np.ndarray:
    """Smallest cross-entropy over bins, per action dimension, in expectation over fresh data.

    floor_a = E_m [ H_a(m) ], H the entropy of the binned conditional (`binned_gaussian_entropy`).

    A loss on training data may end below it, which is memorising; a loss on held-out data may only
    by the luck of a finite sample. The chapter's loss is the mean over the A dimensions.

    Args:
      edges: (A, K + 1) bin edges per dimension, not decreasing, in the action's units; the outer
        bins take the tails.
      mean_std: (A,) tau, standard deviation of the clean action over observations, above 0.
      noise_std: (A,) s, standard deviation of the noise, 0 or more.
      offsets: (A, M) equally likely offsets per dimension, or None for a single mode.
      uniform_weights: (A, S) for a clean action sum_s w_s u_s with u_s ~ U(-1, 1), whose tau is
        sqrt(sum w_s^2 / 3); None for a Gaussian one.
      nodes_per_std: nodes of the trapezoidal rule per min(s, tau); more only to see it converge.

    Returns:
      (A,) float64, nats.

    Raises:
      InputError: shapes that differ, edges that decrease, a std that is negative or not finite, no
        noise at all with more than one mode, `mean_std` that contradicts `uniform_weights`.

    Example:
      Two bins, noise far below the spread: uncertain only beside the edge.
      >>> cross_entropy_floor([[-1.0, 0.0, 1.0]], [1.0], [0.1]).round(3).tolist()
      [0.072]

    References:
      Trefethen and Weideman, 2014, The exponentially convergent trapezoidal rule.
    """
    tau = _vector("mean_std", mean_std)
    noise = _vector("noise_std", noise_std, length=len(tau))
    _positive("mean_std", tau)
    _positive("nodes_per_std", nodes_per_std)
    table = _table("edges", edges, len(tau))
    shifts = _table("offsets", np.zeros((len(tau), 1)) if offsets is None else offsets, len(tau))
    weights = [None] * len(tau)
    if uniform_weights is not None:
        weights = _table("uniform_weights", uniform_weights, len(tau))
        implied = np.sqrt((weights**2).sum(-1) / 3)
        if not np.allclose(implied, tau, rtol=1e-4):
            raise _refusal("mean_std", tau, f"the {implied} that uniform_weights imply")
    floors = [
        _expected_entropy(_edges(e)[1:-1], t, s, _offsets(o), w, nodes_per_std)
        for e, t, s, o, w in zip(table, tau, noise, shifts, weights, strict=True)
    ]
    return np.array(floors)


def _expected_entropy(
    inner: np.ndarray,
    tau: float,
    noise: float,
    spread: np.ndarray,
    weights: np.ndarray | None,
    nodes_per_std: float,
) -> float:
    """E over m of the entropy, for one dimension."""
    if noise == 0:
        if len(spread) > 1:
            raise _refusal("noise_std", 0.0, "above 0 where there is more than one mode")
        return 0.0
    step = min(noise, tau) / nodes_per_std
    reach = _REACH * tau if weights is None else np.abs(weights).sum()
    count = int(np.ceil(reach / step))
    means = step * np.arange(-count, count + 1)
    if weights is None:
        density = np.exp(-0.5 * (means / tau) ** 2) / (tau * np.sqrt(2 * np.pi))
    else:
        half = uniform_sum_density(means[count:], weights)  # even, and the dearest part at a small step
        density = np.concatenate([half[:0:-1], half])
    return float(step * density @ _entropies(inner, means, noise, spread))


def _entropies(inner: np.ndarray, means: np.ndarray, noise: float, spread: np.ndarray) -> np.ndarray:
    """Entropy per mean, from the few edges within reach of that mean.

    Args:
      inner: (K - 1,) edges without the outer two.
      means: (n,).
      noise: s.
      spread: (M,) offsets.

    Returns:
      (n,) nats.
    """
    reach = _REACH * noise
    first = np.searchsorted(inner, means + spread.min() - reach, side="left")
    last = np.searchsorted(inner, means + spread.max() + reach, side="right")
    result = np.zeros(len(means))
    width = int((last - first).max(initial=0))
    if width == 0:  # every mean has all its mass inside one bin
        return result
    padded = np.concatenate([inner, np.full(width, np.inf)])
    rows = max(1, _CHUNK // width)
    for start in range(0, len(means), rows):
        part = slice(start, start + rows)
        distance = padded[first[part, None] + np.arange(width)] - means[part, None]
        below = sum(special.ndtr((distance - o) / noise) for o in spread)
        result[part] = special.entr(_differences(below / len(spread))).sum(-1)
    return result


def _differences(below: np.ndarray) -> np.ndarray:
    """Bin probabilities (..., K) from the distribution function at the inner edges (..., K - 1)."""
    shape = (*below.shape[:-1], 1)
    return np.diff(np.concatenate([np.zeros(shape), below, np.ones(shape)], -1), axis=-1)


def _edges(edges: np.ndarray) -> np.ndarray:
    array = np.asarray(edges, np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all() or (np.diff(array) < 0).any():
        raise _refusal("edges", array, "K + 1 finite numbers that never decrease, K at least 1")
    return array


def _table(name: str, values: np.ndarray, rows: int) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or len(array) != rows:
        raise _refusal(name, f"shape {array.shape}", f"one row for each of the {rows} dimensions")
    return array


def _offsets(offsets: np.ndarray | None) -> np.ndarray:
    array = np.zeros(1) if offsets is None else np.asarray(offsets, np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise _refusal("offsets", array, "a list of finite numbers, one per mode")
    return array[:1] if (array == array[0]).all() else array


def _vector(name: str, values: np.ndarray, length: int | None = None) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all() or (array < 0).any():
        raise _refusal(name, array, "one finite number of 0 or more per dimension")
    if length is not None and len(array) != length:
        raise _refusal(name, f"{len(array)} numbers", f"{length}, one per dimension")
    return array


def _positive(name: str, values: np.ndarray | float) -> None:
    array = np.asarray(values, np.float64)
    if not (np.isfinite(array) & (array > 0)).all():
        raise _refusal(name, values, "finite and above 0")


def _refusal(name: str, got: object, expected: str) -> InputError:
    return InputError(
        f"the floor cannot be computed: {name} does not fit",
        got=got,
        expected=expected,
        cause="statistics of another data set, or of a constant action dimension",
        fix=f"check {name} against the data set's own description (its `extra`)",
    )
