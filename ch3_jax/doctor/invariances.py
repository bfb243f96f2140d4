r"""What must and must not change a loss: five exact tests of check 3, none of which needs a step of training.

  inputs        L(o) != L(o zeroed) and L(o) != L(o exchanged between samples)
  replication   L(batch, batch) = L(batch)
  padding       L does not move when values behind the mask do, and has no gradient when all is masked
  independence  L(i', j') - L(i', j) - L(i, j') + L(i, j) = 0 for changes of two samples i and j
  pairing       over fresh batches a trained network does better with its own inputs than with exchanged ones

The noise key is the same in all evaluations, so equal means equal. The mixed difference of the fourth line is
zero for every sum over samples, whatever the loss.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from ch3_jax.base import PyTree
from ch3_jax.doctor import trials
from ch3_jax.doctor.bench import Bench
from ch3_jax.doctor.finding import Finding, Result
from ch3_jax.doctor.parts import change, leaves_of, part, rows_of, take
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.statistics import ridge_r2

MOST_DIMENSIONS = 64
_SEEN = re.compile(r"obs|image|img|state|pixel|proprio|camera|rgb|depth|qpos|joint|^0$", re.IGNORECASE)
_COUPLED = re.compile(r"nce|contrast|clip|siglip|triplet|vicreg|barlow", re.IGNORECASE)
_BATCH_NORM = re.compile(r"batch_?norm|(?:^|/)bn\d*(?:/|$)", re.IGNORECASE)


def findings(patient: Patient, b: Bench, params: PyTree) -> list[Result]:
    """All five, at parameters that have taken a few steps (at the very first a zero head hides the input)."""
    loss = trials.value(b.loss)
    key = jax.random.key(1)

    def at(batch: PyTree) -> float:
        return float(loss(params, batch, key))

    if not math.isfinite(at(b.four)):
        return []
    results = inputs(b, at) or pairing(patient, b)
    results += replication(b, params)
    results += padding(patient, b, at) or padding_trained(patient, b, params)
    results += independence(patient, b, at)
    return results


def _rolled(x):
    return np.roll(x, 1, axis=0)


def inputs(b: Bench, at) -> list[Result]:
    """Whether the loss sees its inputs at all, and each dimension of the observation."""
    leaves = leaves_of(b.four)
    varied = [
        leaf
        for leaf, x in zip(leaves, jax.tree.leaves(b.four), strict=True)
        if leaf.role == "input" and _varies(x)
    ]
    if not varied:
        return []
    base = at(b.four)
    # Far away too: in float32 a small effect can round to nothing.
    same = [at(change(b.four, "input", f)) == base for f in (_rolled, np.zeros_like, _far)]
    if all(same):
        names = ", ".join(leaf.path for leaf in varied)
        sentence = (
            f"The loss is the same number when {names} is exchanged between samples, zeroed or far off."
        )
        return [
            _finding(
                "input_ignored", "fault", "change of the loss without its inputs", 0.0, 0.0, names, sentence
            )
        ]
    results = (
        [_one_input(b, at, base, leaf.path) for leaf in varied]
        if len(varied) > 1
        else _dimensions(b, at, base, varied[0].path)
    )
    return [r for r in results if r]


def _varies(x) -> bool:
    return bool(np.any(np.asarray(x) != np.asarray(x)[:1]))


def _far(x):
    """Each sample moved by another distance, so that a mean over the batch does not take it back."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return _rolled(x)
    return x + (10 * (1 + np.arange(len(x)))).astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))


def _with_leaf(batch: PyTree, path: str, function) -> PyTree:
    values, tree = jax.tree.flatten(batch)
    new = [function(x) if leaf.path == path else x for x, leaf in zip(values, leaves_of(batch), strict=True)]
    return jax.tree.unflatten(tree, new)


def _one_input(b: Bench, at, base: float, path: str) -> Finding | None:
    if any(at(_with_leaf(b.four, path, f)) != base for f in (_rolled, _far)):
        return None
    # Batches carry much that no network is meant to see: indices, time stamps, what was asked for.
    severity = "warning" if _SEEN.search(path) else "note"
    sentence = f"The loss is the same number whatever stands in the input `{path}`."
    return _finding(
        "input_ignored",
        severity,
        "change of the loss without this input",
        0.0,
        0.0,
        f"input {path}",
        sentence,
    )


def _dimensions(b: Bench, at, base: float, path: str) -> list[Finding]:
    leaf = next(
        x for leaf, x in zip(leaves_of(b.four), jax.tree.leaves(b.four), strict=True) if leaf.path == path
    )
    count = leaf.shape[-1] if leaf.ndim > 1 else 1
    if (
        abs(base) < 1e-4
        or leaf.ndim not in (2, 3)
        or count > MOST_DIMENSIONS
        or not jnp.issubdtype(leaf.dtype, jnp.inexact)
    ):
        return []
    moving = [d for d in range(count) if _varies(leaf[..., d])]
    blind = [d for d in moving if at(_with_leaf(b.four, path, lambda x, d=d: _far_in(x, d))) == base]
    if not blind:
        return []
    sentence = (
        f"The loss is the same number whatever stands in dimension {', '.join(map(str, blind))} of `{path}`."
    )
    return [
        _finding(
            "input_ignored",
            "warning",
            "dimensions without effect",
            len(blind),
            0,
            f"{path} {blind}",
            sentence,
        )
    ]


def _far_in(x: np.ndarray, dimension: int) -> np.ndarray:
    moved = x.copy()
    moved[..., dimension] = _far(x)[..., dimension]
    return moved


def pairing(patient: Patient, b: Bench) -> list[Result]:
    """A trained network against itself with exchanged inputs, where data say that inputs tell something."""
    if patient.params is None or not b.is_fresh:
        return []
    x = [part(batch, "input") for batch in b.pool]
    y = [part(batch, "target") for batch in b.pool]
    if any(z is None for z in (*x, *y)) or x[0].shape[1] > 512:
        return []
    told = float(np.nanmax(np.append(ridge_r2(np.concatenate(x), np.concatenate(y)), -1.0)))
    if told < 0.2:
        return []
    loss = trials.value(b.loss)
    own, other = (
        [
            float(loss(patient.params, change(batch, "input", f), jax.random.key(i)))
            for i, batch in enumerate(b.pool)
        ]
        for f in (lambda z: z, _rolled)
    )
    untrained = np.array([float(loss(b.fresh, batch, jax.random.key(i))) for i, batch in enumerate(b.pool)])
    gain = np.array(other) - np.array(own)
    learnt = float(np.mean(untrained) - np.mean(own))
    if not np.isfinite(gain).all() or learnt < 0.05 * abs(float(np.mean(untrained))):
        return []  # It has learnt nothing yet, so it cannot have learnt to use its inputs.
    p = float(stats.ttest_1samp(gain, 0, alternative="greater").pvalue) if np.ptp(gain) else 1.0
    if p < 0.05 or gain.mean() > 0.05 * abs(float(np.mean(own))):
        return []
    sentence = (
        f"Over {len(b.pool)} batches the trained network's loss is {np.mean(own):.4g} with its inputs "
        f"and {np.mean(other):.4g} with those of other samples, though a linear map of the inputs tells "
        f"up to {told:.0%} of the targets' variance."
    )
    return [
        Finding(
            3,
            "input_ignored",
            "fault",
            "gain of the loss by its own inputs",
            float(gain.mean()),
            0.0,
            "inputs",
            sentence,
            p=1 - p,
        )
    ]


def replication(b: Bench, params: PyTree) -> list[Result]:
    """The same samples twice: a mean stays, a sum doubles. Noise is averaged over a few keys."""
    loss = trials.value(b.loss)
    twice = take(b.four, np.tile(np.arange(rows_of(b.four)), 2))
    keys = [jax.random.key(i) for i in range(8)]
    one, two = (np.array([float(loss(params, batch, key)) for key in keys]) for batch in (b.four, twice))
    if not (np.isfinite(one).all() and np.isfinite(two).all()) or abs(one.mean()) < 1e-6:
        return []
    ratio = float(two.mean() / one.mean())
    spread = 2 * float(np.hypot(one.std(), two.std()) / math.sqrt(len(keys)) / abs(one.mean()))
    if not (1.8 < ratio < 2.2 and spread < 0.4):
        return []
    sentence = f"The same four samples twice in one batch give {ratio:.2f} times the loss: it is a sum."
    return [
        _finding(
            "loss_summed",
            "fault",
            "loss of a batch repeated twice over loss of the batch",
            ratio,
            1.0,
            "the loss",
            sentence,
        )
    ]


def padding(patient: Patient, b: Bench, at) -> list[Result]:
    """Values behind the mask, changed; and a mask that never masks anything although windows end."""
    masks = [leaf for leaf in leaves_of(b.four) if leaf.role == "mask" and leaf.dtype == bool]
    targets = [leaf for leaf in leaves_of(b.four) if leaf.role == "target"]
    if len(masks) != 1 or not targets:
        return []
    (mask,) = masks
    cut = np.ones(mask.shape, bool)
    if mask.shape[-1] > 1 and len(mask.shape) > 1:
        cut[..., mask.shape[-1] // 2 :] = False
    else:
        cut[-1] = False
    ours = mask.path == "mask"
    broken = []
    for keep in (cut,) if ours else (cut, ~cut):
        masked = _with_leaf(b.four, mask.path, lambda x, keep=keep: keep)
        base, moved = at(masked), at(change(masked, "target", lambda x: _moved_behind(x, cut)))
        broken.append(math.isfinite(base) and abs(moved - base) > 1e-5 * abs(base))
    used = any(
        not np.asarray(x).all() for batch in b.pool for x, leaf in _leaves(batch) if leaf.path == mask.path
    )
    if all(broken):
        sentence = f"Values behind the mask `{mask.path}` change the loss."
        if not used:
            sentence += " No batch that was looked at masks anything, so it does no harm yet."
        return [
            _finding(
                "padding_counted",
                "fault" if used else "note",
                "change of the loss by masked values",
                1.0,
                0.0,
                mask.path,
                sentence,
            )
        ]
    return [] if used or not ours else _never_masked(patient, b, mask.shape[-1])


def padding_trained(patient: Patient, b: Bench, params) -> list[Result]:
    """With everything masked there is nothing to learn: a gradient that is left comes from padding.

    A loss that fills padded steps with zeros and counts them is deaf to the values behind the mask, and
    trains the network to answer with zeros. A KL or a decay in the loss has a gradient too, but not by all
    that the targets train, or next to none. Whether True means valid or padded does not matter: one is empty.
    """
    masks = [leaf for leaf in leaves_of(b.four) if leaf.role == "mask" and leaf.dtype == bool]
    if len(masks) != 1:
        return []
    (mask,) = masks
    program = trials.value_and_grad(b.loss)

    def gradients(keep: bool):
        batch = _with_leaf(b.four, mask.path, lambda x: np.full_like(x, keep))
        tree = program(params, batch, jax.random.key(0))[1]
        leaves = [np.asarray(g, np.float64) for g in jax.tree.leaves(tree)]
        return float(np.sqrt(sum(np.sum(np.square(g)) for g in leaves))), [bool(g.any()) for g in leaves]

    (small, fewer), (large, more) = sorted((gradients(True), gradients(False)), key=lambda pair: pair[0])
    if not (np.isfinite(large) and large > 0 and small >= 0.1 * large and fewer == more):
        return []
    used = any(
        not np.asarray(x).all() for batch in b.pool for x, leaf in _leaves(batch) if leaf.path == mask.path
    )
    return [
        _finding(
            "padding_counted",
            "fault" if used else "note",
            "gradient with everything masked",
            small / large,
            0.1,
            mask.path,
            f"With every step masked by `{mask.path}`, {small / large:.0%} of the gradient is left: padding "
            "is trained.",
        )
    ]


def _leaves(batch: PyTree):
    return zip(jax.tree.leaves(batch), leaves_of(batch), strict=True)


def _moved_behind(x, cut: np.ndarray):
    """Targets with other values where the mask says False; tokens become another token."""
    if x.shape[: cut.ndim] != cut.shape:
        return x
    keep = cut.reshape(cut.shape + (1,) * (x.ndim - cut.ndim))
    return np.where(keep, x, x[::-1] + np.ones((), x.dtype))


def _never_masked(patient: Patient, b: Bench, horizon: int) -> list[Result]:
    if patient.dataset is None or horizon < 2 or "train" not in patient.dataset.splits:
        return []
    steps = patient.dataset.splits["train"]
    lengths = np.diff(steps.offset)
    ends = float(np.minimum(lengths, horizon - 1).sum() / lengths.sum())  # windows that run past an end
    windows = np.concatenate([np.asarray(batch.action) for batch in b.pool])
    still = float(np.mean(np.all(windows[:, -1] == windows[:, -2], axis=-1)))
    usual = float(np.mean(np.all(np.diff(steps.action, axis=0) == 0, axis=1))) if len(steps) > 1 else 0.0
    expected = ends * len(windows)
    if expected < 20 or still < usual + 0.5 * ends:
        return []
    sentence = (
        f"{ends:.0%} of all windows of {horizon} actions run past their episode's end and {still:.0%} end in "
        f"a repeated action, but the mask of {len(windows)} windows hides none of them."
    )
    return [_finding("padding_counted", "fault", "windows masked", 0.0, ends, "mask", sentence)]


def independence(patient: Patient, b: Bench, at) -> list[Result]:
    """The mixed difference of two samples' inputs; zero for a mean over samples."""
    if rows_of(b.four) < 2 or not any(leaf.role == "input" for leaf in leaves_of(b.four)):
        return []

    def moved(*rows: int) -> float:
        def exchange(x):
            x, other = x.copy(), _rolled(x)
            x[list(rows)] = other[list(rows)]
            return x

        return at(change(b.four, "input", exchange))

    base, i, j, both = moved(), moved(0), moved(1), moved(0, 1)
    mixed, size = both - i - j + base, abs(i - base) + abs(j - base)
    if not math.isfinite(mixed) or abs(mixed) < max(0.05 * size, 1e-5 * abs(base), 1e-7):
        return []
    by_design = (
        patient.declared.family == "reinforcement"
        or _COUPLED.search(patient.declared.loss_name or "")
        or any(_BATCH_NORM.search(name) for name in b.names)
    )
    share = abs(mixed) / size if size else math.inf
    sentence = (
        f"Changing two samples changes the loss by {share:.0%} other than changing each alone: samples mix."
    )
    if by_design:
        sentence += " Contrastive losses, batch normalisation and advantages over a batch do so by design."
    return [
        _finding(
            "batch_dependence",
            "note" if by_design else "warning",
            "interaction of two samples",
            share,
            0.05,
            "samples 0 and 1",
            sentence,
        )
    ]


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(3, cause, severity, statistic, float(value), bound, where, sentence)
