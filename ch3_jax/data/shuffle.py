r"""A fresh shuffle of n items for every epoch, evaluated one position at a time.

Storing a permutation of a million items costs a sort per epoch and makes the position in the data a
piece of state. A Feistel network is a permutation that needs neither: write a position x in
[0, 2^b) as two halves (l, r) and repeat a few times

  (l, r) <- (r, l xor F(r, k_i)),

which is invertible whatever F is. Positions that land in [n, 2^b) are sent through again until they
land under n ("cycle walking"), which restricts the permutation to [0, n). The sample that step t
sees is then a pure function of (key, t): any step can be resumed or replayed alone.

Reference: Black & Rogaway 2002, Ciphers with Arbitrary Finite Domains.
"""

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Key

_ROUNDS = 6


def indices(key: Key, steps: Array, batch_size: int, n: int) -> Array:
    """Which samples each step sees: every sample once per epoch, in an order of the epoch's own.

    An epoch has floor(n / batch_size) steps; what does not fill a batch is left out of that epoch, a
    different remainder each time.

    Args:
      key: of the run; epoch e uses `fold_in(key, e)`.
      steps: (T,) int32 step numbers, counted from the start of the run.
      batch_size: B, at most n.
      n: number of samples.

    Returns:
      (T, B) int32 in [0, n).

    >>> first_epoch = indices(jax.random.key(0), jnp.arange(5), 2, 10)
    >>> sorted(first_epoch.ravel().tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    if not 1 <= batch_size <= n:
        raise ValueError(f"`batch_size` is {batch_size}, expected 1 to n = {n}, the number of samples.")
    per_epoch = n // batch_size
    epoch, step = jnp.divmod(steps, per_epoch)
    round_keys = jax.vmap(lambda e: jax.random.bits(jax.random.fold_in(key, e), (_ROUNDS,)))(epoch)
    position = step[:, None] * batch_size + jnp.arange(batch_size)[None, :]
    return permute(round_keys, position.astype(jnp.uint32), n).astype(jnp.int32)


def permute(round_keys: Array, position: Array, n: int) -> Array:
    """Where a keyed permutation of range(n) sends each position.

    Args:
      round_keys: (T, R) uint32, one row of round keys for each row of positions.
      position: (T, B) uint32 in [0, n).
      n: size of the domain.

    Returns:
      (T, B) uint32 in [0, n), distinct for distinct positions under equal keys.
    """
    # Under six bits the halves are too narrow to mix: the shuffles of ten items would not be uniform.
    bits = max((n - 1).bit_length(), 6)
    # Halves of unequal width swap roles, so an even number of rounds puts the bits back in place.
    low_bits = bits // 2

    def once(x: Array) -> Array:
        low, high = low_bits, bits - low_bits
        for i in range(round_keys.shape[1]):
            left, right = x >> low, x & jnp.uint32((1 << low) - 1)
            mixed = _mix(right ^ round_keys[:, i, None]) & jnp.uint32((1 << high) - 1)
            x = (right << high) | (left ^ mixed)
            low, high = high, low
        return x

    def walk(x: Array) -> Array:
        return jnp.where(x >= n, once(x), x)

    return jax.lax.while_loop(lambda x: jnp.any(x >= n), walk, once(position))


def _mix(x: Array) -> Array:
    """A 32-bit finaliser (the constants of MurmurHash3): every input bit reaches every output bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
