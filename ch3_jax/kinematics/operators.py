r"""Forward kinematics and its derivative as two operators that know how to be batched and differentiated.

  chain(q) -> R, p, J          push(q, dq) -> (sum_j w_j dq_j) x R,  sum_j v_j dq_j

with J_j = (v_j, w_j). All derivatives close over these two: that of the pose is `push`, that of J is
v_min x v_max products of its own columns,

  d J_i = ( W_i x v_i + w_i x V_i,  W_i x w_i ),   W_i = sum_{j <= i} w_j dq_j,   V_i = sum_{j > i} v_j dq_j,

so `jax.jacfwd(forward)` costs what the analytic Jacobian costs, reverse mode transposes a sum of columns,
and no order of differentiation ever differentiates through sines. `jax.vmap` adds an axis in front of q
instead of rewriting the program; when it is compiled, the samples are laid out last and taken in tiles that
stay in the processor's cache (CPU) or all at once (GPU, TPU).

References: Bruyninckx and De Schutter (1996), "Symbolic differentiation of the velocity mapping".
"""

import functools

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ch3_jax.base import Array
from ch3_jax.kinematics import chain as kernel
from ch3_jax.kinematics.canonical import Chain

TILE = 512  # samples: some 150 kB of intermediate results, the level-2 cache of any processor

_POSE, _JACOBIAN = ("rotation", "position"), ("jacobian",)


def pose(chain: Chain, q: Array) -> tuple[Array, Array]:
    """R (..., 3, 3) and p (..., 3) of the tip for q (..., N)."""
    return tuple(_chain_p.bind(q, chain=chain, outputs=_POSE))


def jacobian(chain: Chain, q: Array) -> Array:
    """J (..., 6, N) for q (..., N): linear first, axes of the base, at the tip."""
    return _chain_p.bind(q, chain=chain, outputs=_JACOBIAN)[0]


def pose_and_jacobian(chain: Chain, q: Array) -> tuple[Array, Array, Array]:
    """R, p and J in one pass."""
    return tuple(_chain_p.bind(q, chain=chain, outputs=_POSE + _JACOBIAN))


def jacobian_into(chain: Chain, q: Array, out: Array) -> Array:
    """J written into `out` (6, N, B) for q (N, B)."""
    return _into_p.bind(q, out, chain=chain)[0]


# --- layouts ---------------------------------------------------------------------------------------
# While a program runs the samples are the last axis of every array; one transpose per result, after the
# loop and of the whole array, puts them first. Inside the loop the compiler would fuse it into the writes.


def _rows(
    chain: Chain, outputs: tuple[str, ...], staged: bool, q: Array
) -> list[list[tuple[Array, tuple[int, ...]]]]:
    """For q (N, T) and each output its pieces, each with its place but for the last axis."""
    turned = "rotation" in outputs
    walk = kernel.walk_staged(chain, q, turned) if staged else kernel.walk(chain, q)
    linear = [(part[:, None], (0, j)) for j, part in enumerate(walk.linear)]
    angular = [(part[:, None], (3, j)) for j, part in enumerate(walk.angular)]
    pieces = {
        "rotation": [(walk.rotation, (0, 0))],
        "position": [(walk.position, (0,))],
        "jacobian": [*linear, *angular],
    }
    return [pieces[name] for name in outputs]


def _pushed_rows(chain: Chain, shared: Array | None, staged: bool, q: Array, *own: Array):
    """Pieces of the slopes of the rotation (n, 3, 3, T) and of the position (n, 3, T) along n directions."""
    walk = kernel.walk_staged(chain, q) if staged else kernel.walk(chain, q)
    n, t, go = len(chain.slides), q.shape[1], kernel.opaque(q)

    def columns():
        return jnp.concatenate([jnp.stack(list(walk.linear)), jnp.stack(list(walk.angular))], 1)

    r, both = kernel.stage(go, lambda: (walk.rotation, columns())) if staged else (walk.rotation, columns())
    if shared is not None and staged:
        # Written out: a product of 7 by 7 is too small for the library that multiplies matrices on a CPU.
        turned = kernel.stage(go, lambda: sum(shared[:, j, None, None] * both[j][None] for j in range(n)))
    elif shared is not None:
        # (directions, joints) times (joints, 6 T): the only matrix product, at full precision.
        turned = jnp.dot(shared, both.reshape(n, 6 * t), precision=jax.lax.Precision.HIGHEST).reshape(
            -1, 6, t
        )
    else:
        turned = jnp.sum(own[0][:, :, None] * both[None], 1)
    v, w = turned[:, :3], turned[:, 3:]
    pieces = []
    for row, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        pieces.append(((w[:, i, None] * r[None, j] - w[:, j, None] * r[None, i])[:, None], (0, row, 0)))
    return [pieces, [(v, (0, 0))]]


def _tiles(rows, arguments: tuple[Array, ...], out: tuple[Array, ...], tiled: bool) -> tuple[Array, ...]:
    """Runs `rows` over tiles of the last axis; the last tile overlaps the one before instead of being
    short. The rows of `out` may be longer than those of the arguments; the rest stays as it is."""
    batch = arguments[0].shape[-1]
    size = min(TILE, batch) if tiled else batch

    def write(start, out):
        cut = [jax.lax.dynamic_slice_in_dim(x, start, size, x.ndim - 1) for x in arguments]
        written = []
        for array, pieces in zip(out, rows(*cut), strict=True):
            for piece, place in pieces:
                array = jax.lax.dynamic_update_slice(array, piece, (*place, start))
            written.append(array)
        return tuple(written)

    if size == batch:
        return write(0, out)
    last = batch - size
    return jax.lax.fori_loop(
        0, -(-batch // size), lambda i, out: write(jnp.minimum(i * size, last), out), out
    )


def _samples_first(array: Array, leading: tuple[int, ...]) -> Array:
    return jnp.moveaxis(array, -1, 0).reshape(*leading, *array.shape[:-1])


def _chain_impl(q: Array, *, chain: Chain, outputs: tuple[str, ...], staged: bool) -> list[Array]:
    flat, leading = q.reshape(-1, q.shape[-1]).T, q.shape[:-1]
    n, batch = flat.shape
    shapes = [_shape(name, n) for name in outputs]
    if batch == 0:
        return [jnp.zeros((*leading, *shape), q.dtype) for shape in shapes]
    if batch == 1:  # nothing to lay out: the price of one q is the number of operations dispatched
        walk = kernel.walk(chain, flat)
        columns = jnp.swapaxes(jnp.concatenate([walk.linear, walk.angular], 1), 0, 1)
        parts = {"rotation": walk.rotation, "position": walk.position, "jacobian": columns}
        return [parts[name].reshape(*leading, *shape) for name, shape in zip(outputs, shapes, strict=True)]
    row = _odd_lines(batch) if staged else batch
    out = tuple(jax.lax.empty((*shape, row), q.dtype) for shape in shapes)
    return [
        _samples_first(x[..., :batch], leading)
        for x in _tiles(functools.partial(_rows, chain, outputs, staged), (flat,), out, staged)
    ]


def _odd_lines(batch: int, line: int = 16) -> int:
    """A row length of an odd number of cache lines: the columns of such rows do not share a place in it."""
    return batch if batch < 4 * line else line * (-(-batch // line) | 1)


def _into_impl(q: Array, out: Array, *, chain: Chain, staged: bool) -> list[Array]:
    return list(_tiles(functools.partial(_rows, chain, _JACOBIAN, staged), (q,), (out,), staged))


def _push_impl(q: Array, dq: Array, *, chain: Chain, staged: bool) -> list[Array]:
    flat, leading = q.reshape(-1, q.shape[-1]).T, q.shape[:-1]
    directions, batch = dq.shape[-2], flat.shape[1]
    shapes = ((directions, 3, 3), (directions, 3))
    if batch == 0:
        return [jnp.zeros((*leading, *shape), q.dtype) for shape in shapes]
    shared = dq if dq.ndim == 2 else None
    own = () if dq.ndim == 2 else (jnp.moveaxis(dq.reshape(batch, directions, -1), 0, -1),)
    row = _odd_lines(batch) if staged else batch
    out = tuple(jax.lax.empty((*shape, row), q.dtype) for shape in shapes)
    return [
        _samples_first(x[..., :batch], leading)
        for x in _tiles(functools.partial(_pushed_rows, chain, shared, staged), (flat, *own), out, staged)
    ]


def _shape(name: str, joints: int) -> tuple[int, ...]:
    return {"rotation": (3, 3), "position": (3,), "jacobian": (6, joints)}[name]


# --- the operators ---------------------------------------------------------------------------------


def _operator(name: str, implementation, abstract) -> Primitive:
    primitive = Primitive(name)
    primitive.multiple_results = True

    @functools.lru_cache(maxsize=256)
    def compiled(**params):
        return jax.jit(lambda *arrays: primitive.bind(*arrays, **params))

    primitive.def_impl(lambda *arrays, **params: compiled(**params)(*arrays))
    primitive.def_abstract_eval(abstract)
    for platform, staged in ((None, False), ("cpu", True)):
        rule = mlir.lower_fun(functools.partial(implementation, staged=staged), multiple_results=True)
        mlir.register_lowering(primitive, rule, platform=platform)
    return primitive


def _chain_abstract(q, *, chain, outputs):
    return [jax.core.ShapedArray((*q.shape[:-1], *_shape(name, q.shape[-1])), q.dtype) for name in outputs]


def _push_abstract(q, dq, *, chain):
    leading = (*q.shape[:-1], dq.shape[-2])
    return [jax.core.ShapedArray((*leading, 3, 3), q.dtype), jax.core.ShapedArray((*leading, 3), q.dtype)]


_chain_p = _operator("arm_chain", _chain_impl, _chain_abstract)
_push_p = _operator("arm_push", _push_impl, _push_abstract)
_into_p = _operator(
    "arm_jacobian_into", _into_impl, lambda q, out, *, chain: [jax.core.ShapedArray(out.shape, out.dtype)]
)


def _chain_jvp(primals, tangents, *, chain, outputs):
    (q,), (dq,) = primals, tangents
    out = _chain_p.bind(q, chain=chain, outputs=outputs)
    if isinstance(dq, ad.Zero):
        return out, [ad.Zero.from_primal_value(x) for x in out]
    named = dict(zip(outputs, out, strict=True))
    slopes = {}
    if "rotation" in outputs:
        # Without leading axes the direction is one of n that all samples share: cheap under jacfwd.
        rotation, position = _push_p.bind(q, dq[..., None, :], chain=chain)
        slopes = {"rotation": rotation[..., 0, :, :], "position": position[..., 0, :]}
    if "jacobian" in outputs:
        slopes["jacobian"] = jacobian_slope(named["jacobian"], dq)
    return out, [slopes[name] for name in outputs]


def jacobian_slope(jacobian: Array, dq: Array) -> Array:
    """The derivative of J (..., 6, N) along dq (..., N), from the columns of J alone."""
    v, w = jacobian[..., :3, :], jacobian[..., 3:, :]
    upstream = jnp.cumsum(w * dq[..., None, :], -1)
    moved = v * dq[..., None, :]
    downstream = jnp.sum(moved, -1, keepdims=True) - jnp.cumsum(moved, -1)
    linear = _cross(upstream, v) + _cross(w, downstream)
    return jnp.concatenate([linear, _cross(upstream, w)], -2)


def _cross(a: Array, b: Array) -> Array:
    """Cross product over the second axis from the end."""
    pairs = ((1, 2), (2, 0), (0, 1))
    return jnp.stack([a[..., i, :] * b[..., j, :] - a[..., j, :] * b[..., i, :] for i, j in pairs], -2)


def _push_plain(rotation: Array, jacobian: Array, dq: Array) -> list[Array]:
    """What `push` computes, from R and J: linear in dq (..., n, N)."""
    turned = jnp.sum(jacobian[..., None, :, :] * dq[..., :, None, :], -1)  # (..., n, 6)
    w = turned[..., 3:, None]
    return [_cross(jnp.broadcast_to(w, (*w.shape[:-1], 3)), rotation[..., None, :, :]), turned[..., :3]]


def _spread(dq: Array, q: Array) -> Array:
    """Shared directions (n, N) repeated for every sample of q."""
    return jnp.broadcast_to(dq, (*q.shape[:-1], *dq.shape)) if dq.ndim == 2 else dq


def _push_jvp(primals, tangents, *, chain):
    (q, dq), (q_dot, dq_dot) = primals, tangents
    out = _push_p.bind(q, dq, chain=chain)
    slopes = None
    if not isinstance(dq_dot, ad.Zero):
        slopes = _push_p.bind(q, dq_dot, chain=chain)
    if not isinstance(q_dot, ad.Zero):

        def of_q(q):
            rotation, _, columns = pose_and_jacobian(chain, q)
            return _push_plain(rotation, columns, _spread(dq, q))

        _, bent = jax.jvp(of_q, (q,), (q_dot,))
        slopes = bent if slopes is None else [a + b for a, b in zip(slopes, bent, strict=True)]
    return out, slopes if slopes is not None else [ad.Zero.from_primal_value(x) for x in out]


def _push_transpose(cotangents, q, dq, *, chain):
    aval = dq.aval
    rotation, _, columns = pose_and_jacobian(chain, q)
    zeros = [(*q.shape[:-1], aval.shape[-2], 3, 3), (*q.shape[:-1], aval.shape[-2], 3)]
    back = [
        jnp.zeros(s, q.dtype) if isinstance(c, ad.Zero) else c for c, s in zip(cotangents, zeros, strict=True)
    ]
    # <ct, w x R> = w . sum over columns of (R_c x ct_c)
    turning = jnp.sum(_cross(jnp.broadcast_to(rotation[..., None, :, :], back[0].shape), back[0]), -1)
    wrench = jnp.concatenate([back[1], turning], -1)
    full = jnp.sum(columns[..., None, :, :] * wrench[..., :, None], -2)  # (..., n, N)
    if len(aval.shape) == 2 and full.ndim > 2:
        full = jnp.sum(full, tuple(range(full.ndim - 2)))
    return None, full


def _chain_batch(arguments, dims, *, chain, outputs):
    q = jnp.moveaxis(arguments[0], dims[0], 0)
    out = _chain_p.bind(q, chain=chain, outputs=outputs)
    return out, [0] * len(out)


def _push_batch(arguments, dims, *, chain):
    (q, dq), (q_dim, dq_dim) = arguments, dims
    leading = q.ndim - 1 - (q_dim is not None)
    shared = dq.ndim - (dq_dim is not None) == 2
    if q_dim is None and leading == 0:  # jacfwd: more directions for the same q
        dq = jnp.moveaxis(dq, dq_dim, 0)
        size, directions, n = dq.shape
        rotation, position = _push_p.bind(q, dq.reshape(size * directions, n), chain=chain)
        return [rotation.reshape(size, directions, 3, 3), position.reshape(size, directions, 3)], [0, 0]
    if dq_dim is not None:
        dq = jnp.moveaxis(dq, dq_dim, 0)
        if shared and leading:
            dq = jnp.broadcast_to(
                dq.reshape(dq.shape[0], *(1,) * leading, *dq.shape[1:]),
                (dq.shape[0], *_lead(q, q_dim), *dq.shape[1:]),
            )
    elif not shared:
        dq = jnp.broadcast_to(dq, (q.shape[q_dim], *dq.shape))
    q = jnp.broadcast_to(q, (dq.shape[0], *q.shape)) if q_dim is None else jnp.moveaxis(q, q_dim, 0)
    return _push_p.bind(q, dq, chain=chain), [0, 0]


def _lead(q: Array, q_dim) -> tuple[int, ...]:
    shape = list(q.shape[:-1]) if q_dim is None else [s for i, s in enumerate(q.shape) if i != q_dim][:-1]
    return tuple(shape)


ad.primitive_jvps[_chain_p] = _chain_jvp
ad.primitive_jvps[_push_p] = _push_jvp
ad.primitive_transposes[_push_p] = _push_transpose
batching.primitive_batchers[_chain_p] = _chain_batch
batching.primitive_batchers[_push_p] = _push_batch
