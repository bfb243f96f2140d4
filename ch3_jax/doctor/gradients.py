r"""Check 4: gradients and updates, layer by layer.

Raw norms say little under Adam, which divides them out, so the questions are about what a step does:

  update ratio   ||Delta_l|| / ||theta_l|| of every layer, over steps
  still          a leaf whose gradient is exactly 0 on every batch, after the first steps too
  vanishing      the smallest over the largest root-mean-square gradient of the kernels, and the same of
                 ||g|| ||theta||, the change of the loss by a relative change of the layer
  dead           units that give 0 for every sample: their column has no gradient, nor has the row behind it
  swallowed      updates that the parameters' precision rounds away
  leak           a gradient of one loss by parameters that another one trains
  noise          B_noise = tr Sigma / ||G||^2, the batch at which noise and signal are equal

The rate is judged by the run against itself at another rate (`rates`), randomness by two draws.

References: McCandlish et al. 2018, arXiv:1812.06162 (noise scale); section 3.5 of the chapter.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.doctor import randomness, rates, trials
from ch3_jax.doctor.bench import Bench, bench, missing
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.statistics import trend

VANISHED = 1e-5
DEAD = 0.5
BURST, BURSTS = 30.0, 20
_NO_WEIGHTS = re.compile(
    r"target|ema|running|batch_stats|buffer|stat|mean|var|std|scale_in|offset|position|pos_emb|sincos|freq",
    re.IGNORECASE,
)


def check(patient: Patient) -> list[Result]:
    """Gradients per layer, the rate against a tenth of it, randomness, and what the history says of norms.

    Raises:
      InputError: a loss that is not a scalar or that JAX cannot trace.
    """
    results = [*of_history(patient), *leaks(patient)]
    if lacking := missing(patient, 4, "gradients per layer"):
        return [*results, *lacking]
    b = bench(patient)
    if not math.isfinite(float(trials.value_and_grad(b.loss)(b.fresh, b.pool[0], jax.random.key(0))[0])):
        return [*results, NotExamined(4, "gradients per layer", "a finite loss before the first step")]
    results += randomness.findings(patient, b)
    if patient.optimizer is None:
        results.append(NotExamined(4, "the rate and the updates per layer", "`optimizer`"))
        start = b.fresh
    else:
        own = rates.own(patient, b)
        judged = rates.findings(patient, b, own)
        results += [*judged, *swallowed(b, own)]
        # What a rate that is too high has wrecked says nothing about the layers.
        wrecked = any(getattr(r, "alarm", False) for r in judged) or not np.isfinite(own.walked.loss).all()
        start = b.fresh if wrecked else own.params
    pooled = pool_gradients(b, patient.params if patient.params is not None else start)
    dying = dead(b, pooled)
    if patient.params is not None and any(r.alarm for r in dying):
        dying += died(dying[0], dead(b, pool_gradients(b, b.fresh)))
    results += still(patient, b, pooled) + vanishing(b, pooled) + dying + [noise(b, pooled)]
    return [r for r in results if r is not None]


class _Pooled:
    """Gradients over the pool at one place: largest magnitude, mean, mean of squared norms."""

    def __init__(self, params, loss, batches):
        self.params = [np.asarray(x) for x in jax.tree.leaves(params)]
        largest, total, squares = None, None, 0.0
        for i, batch in enumerate(batches):
            g = [
                np.asarray(x, np.float32)
                for x in jax.tree.leaves(trials.value_and_grad(loss)(params, batch, jax.random.key(i))[1])
            ]
            largest = (
                [np.abs(x) for x in g]
                if largest is None
                else [np.maximum(a, np.abs(x)) for a, x in zip(largest, g, strict=True)]
            )
            total = g if total is None else [a + x for a, x in zip(total, g, strict=True)]
            squares += sum(float(np.sum(np.square(x, dtype=np.float64))) for x in g) / len(batches)
        self.largest, self.mean, self.squares = largest, [x / len(batches) for x in total], squares


def pool_gradients(b: Bench, params) -> _Pooled:
    """Gradients at `params` over all batches of the pool."""
    return _Pooled(params, b.loss, b.pool)


def still(patient: Patient, b: Bench, pooled: _Pooled) -> list[Result]:
    """Leaves without any gradient that nobody declared frozen."""
    none = [not g.any() for g in pooled.largest]
    if all(none):
        return []  # Check 3 says that of the whole.
    names = [n for n, zero in zip(b.names, none, strict=True) if zero and not trials.is_frozen(patient, n)]
    names = [n for n in names if not _behind_dead_units(b, pooled, n)]
    found = []
    for known, group in (
        (False, [n for n in names if not _NO_WEIGHTS.search(n)]),
        (True, [n for n in names if _NO_WEIGHTS.search(n)]),
    ):
        if group:
            sentence = f"The gradient of {_named(group)} is exactly 0 on {len(b.pool)} batches."
            if known:
                sentence += " By their names these are not meant to be trained."
            severity = "note" if known else "fault"
            found.append(
                _finding(
                    "frozen_layer",
                    severity,
                    "leaves without gradient",
                    len(group),
                    0,
                    _named(group),
                    sentence,
                )
            )
    return found


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"


def _behind_dead_units(b: Bench, pooled: _Pooled, name: str) -> bool:
    """Whether the leaf belongs to a layer all of whose units are dead: that is said under another name."""
    return any(name in (first, second) for first, second, share in _dead_pairs(b, pooled) if share == 1)


def vanishing(b: Bench, pooled: _Pooled) -> list[Result]:
    """Kernels that get next to nothing of the gradient, compared with the others."""
    rows = [
        (
            n,
            float(np.sqrt(np.mean(np.square(g, dtype=np.float64)))),
            float(np.linalg.norm(g) * np.linalg.norm(p)),
        )
        for n, g, p in zip(b.names, pooled.largest, pooled.params, strict=True)
        if g.ndim >= 2 and g.any()
    ]
    if len(rows) < 3:
        return []
    smallest, largest = min(rows, key=lambda r: r[1]), max(rows, key=lambda r: r[1])
    ratio = smallest[1] / largest[1]
    relative = smallest[2] / max(r[2] for r in rows)
    if max(ratio, relative) > VANISHED:
        return []
    sentence = f"The gradient of `{smallest[0]}` is {ratio:.1e} of that of `{largest[0]}` per element."
    return [
        _finding(
            "vanishing_gradients",
            "warning",
            "smallest over largest gradient",
            ratio,
            VANISHED,
            smallest[0],
            sentence,
        )
    ]


def _dead_pairs(b: Bench, pooled: _Pooled) -> list[tuple[str, str, float]]:
    """(kernel, kernel behind it, share dead) where the zero columns of one are zero rows of the other."""
    kernels = [(n, g) for n, g in zip(b.names, pooled.largest, strict=True) if g.ndim == 2]
    found = []
    for name, g in kernels:
        for other, h in kernels:
            if other == name:
                continue
            for out, into in (
                (g.max(0), h.max(1)),
                (g.max(1), h.max(0)),
            ):  # (in, out) kernels, (out, in) kernels
                if len(out) == len(into) >= 16 and (out == 0).any() and ((out == 0) == (into == 0)).all():
                    found.append((name, other, float(np.mean(out == 0))))
    return found


def dead(b: Bench, pooled: _Pooled) -> list[Result]:
    """Layers most of whose units are 0 for every sample of the pool."""
    pairs = _dead_pairs(b, pooled)
    if not pairs:
        return []
    name, _, share = max(pairs, key=lambda pair: pair[2])
    severity = "note" if share <= DEAD else "warning" if share < 0.9 else "fault"
    sentence = f"{share:.0%} of the units behind `{name}` give 0 for every sample of {len(b.pool)} batches."
    return [
        _finding(
            "dead_units" if severity != "note" else "normal",
            severity,
            "share of dead units",
            share,
            DEAD,
            name,
            sentence,
        )
    ]


def died(now: Finding, before: list[Finding]) -> list[Finding]:
    """Units that were alive at the start: it takes steps that are too large to push them out of reach."""
    alive = max((r.value for r in before), default=0.0)
    if alive > 0.2 * now.value:
        return []
    sentence = f"{alive:.0%} of them were dead at the start: training has killed them, with steps too large."
    return [
        _finding(
            "rate_too_high", "warning", "share of dead units at the start", alive, 0.2, now.where, sentence
        )
    ]


def swallowed(b: Bench, own: trials.Trial) -> list[Result]:
    """Updates lost in half-precision parameters over the measured steps."""
    found = []
    for j, (name, leaf) in enumerate(zip(b.names, jax.tree.leaves(b.fresh), strict=True)):
        lost = float(own.walked.lost[:, j].min()) if len(own.walked.lost) else 0.0
        if jnp.result_type(leaf).itemsize <= 2 and lost > 0.5:
            found.append((lost, name, str(jnp.result_type(leaf))))
    if not found:
        return []
    lost, name, dtype = max(found)
    sentence = (
        f"At least {lost:.0%} of the updates of `{name}` vanish in {dtype} at every step that was looked at."
    )
    return [
        _finding(
            "low_precision_swallow", "fault", "share of updates lost to rounding", lost, 0.5, name, sentence
        )
    ]


def noise(b: Bench, pooled: _Pooled) -> Finding | None:
    """The gradient noise scale, from the norms of single batches and of their mean."""
    mean = sum(float(np.sum(np.square(x, dtype=np.float64))) for x in pooled.mean)
    count = len(b.pool)
    rows = np.shape(jax.tree.leaves(b.pool[0])[0])[0]
    spread = (pooled.squares - mean) * count / (count - 1) if count > 1 else 0.0
    signal = mean - spread / count
    if spread <= 0 or signal <= 0:
        return None
    scale = rows * spread / signal
    sentence = f"Noise and signal of the gradient are equal in a batch of about {scale:,.0f}."
    return Finding(4, "normal", "note", "gradient noise scale", scale, None, "all parameters", sentence)


def leaks(patient: Patient) -> list[Result]:
    """Gradients of a loss by parameters that it must not train: `extra["losses"]` and `extra["trains"]`."""
    losses, trains = patient.extra.get("losses"), patient.extra.get("trains")
    if not losses or not trains or patient.batches is None:
        return []
    params = patient.params if patient.params is not None else patient.init(jax.random.key(0))
    names, found = trials.leaf_names(params), []
    for title, loss in losses.items():
        if title not in trains:
            continue
        gradients = jax.tree.leaves(
            jax.grad(trials.scalar_loss(patient, params, patient.batches(0), loss))(
                params, patient.batches(0), jax.random.key(0)
            )
        )
        allowed = tuple(prefix.removeprefix("params/") for prefix in trains[title])
        wrong = [
            n
            for n, g in zip(names, gradients, strict=True)
            if np.asarray(g).any() and not n.startswith(allowed)
        ]
        if wrong:
            sentence = f"The loss `{title}` has a gradient by {_named(wrong)}, which it is not said to train."
            found.append(
                _finding(
                    "gradient_leak",
                    "fault",
                    "leaves with a gradient that should be 0",
                    len(wrong),
                    0,
                    _named(wrong),
                    sentence,
                )
            )
    return found


def of_history(patient: Patient) -> list[Result]:
    """What logged norms say: growth, clipping, updates that are too small to matter."""
    history = patient.history
    if history is None:
        return []
    found = []
    norm = history.role("gradient_norm")
    if norm is not None and np.isfinite(norm.values).sum() >= 20:
        found += _norms(patient, norm.steps[np.isfinite(norm.values)], norm.values[np.isfinite(norm.values)])
    found += bursts(patient)
    ratio = history.role("update_ratio")
    if ratio is not None and len(values := ratio.values[np.isfinite(ratio.values)]) >= 5:
        found += _ratios(values)
    return found


def bursts(patient: Patient) -> list[Result]:
    """Batches whose gradient is tens of times the usual one, and a loss that jumps with it, again and again.

    Held against the median of the twenty rows before: half of them may be hit and it stays what is usual.
    Under a clip such batches are harmless, and in reinforcement learning they are no surprise.
    """
    largest = patient.history.series.get("gradient_norm_max") or patient.history.role("gradient_norm")
    loss = patient.history.role("loss")
    if largest is None or loss is None or patient.declared.clip or len(largest.values) < BURSTS // 2 + 4:
        return []
    if patient.declared.family == "reinforcement" or not np.array_equal(largest.steps, loss.steps):
        return []
    hit = [
        i
        for i in range(BURSTS // 2, len(loss.values))
        # Near zero everything is many times everything: what does harm costs a share of the first loss.
        if loss.values[i] > 0.1 * abs(loss.values[0])
        and all(
            x.values[i] > bound * np.median(np.abs(x.values[max(0, i - BURSTS) : i]))
            for x, bound in ((largest, BURST), (loss, BURST / 10))
        )
    ]
    if len(hit) < 2 or len(hit) > 0.5 * len(loss.values):
        return []
    usual = float(np.median(largest.values))
    top = max(hit, key=lambda i: largest.values[i])
    sentence = (
        f"In {len(hit)} of {len(loss.values)} reports a batch has a gradient of over {BURST:g} times the "
        f"usual norm, {largest.values[top]:.3g} at step {largest.steps[top]:,} where {usual:.3g} is usual; "
        "nothing clips it."
    )
    return [
        _finding(
            "exploding_gradients",
            "warning",
            "largest gradient norm over the usual one",
            float(largest.values[top] / usual) if usual > 0 else 1e9,
            BURST,
            "batches",
            sentence,
        )
    ]


def _norms(patient: Patient, steps: np.ndarray, values: np.ndarray) -> list[Result]:
    found = []
    clip = patient.declared.clip
    if clip:
        share = float(np.mean(values > clip))
        sentence = (
            f"{share:.0%} of the logged gradient norms are above the bound of {clip:g} and are clipped."
        )
        found.append(
            Finding(
                4, "normal", "note", "share of norms that are clipped", share, 0.5, "all parameters", sentence
            )
        )
    early, late = (
        np.median(values[: max(5, len(values) // 5)]),
        np.median(values[-max(5, len(values) // 10) :]),
    )
    tail = slice(len(values) // 2, None)
    rising = trend(steps[tail].astype(float), np.log(np.maximum(values[tail], 1e-30)))
    if (
        patient.declared.family != "reinforcement"
        and late > 100 * early > 0
        and rising.tau > 0.3
        and rising.p < 1e-3
    ):
        sentence = f"The gradient norm rises from {early:.3g} to {late:.3g} and is still rising."
        found.append(
            Finding(
                4,
                "exploding_gradients",
                "warning",
                "late over early gradient norm",
                float(late / early),
                100.0,
                "all parameters",
                sentence,
                p=rising.p,
            )
        )
    return found


def _ratios(values: np.ndarray) -> list[Result]:
    largest = float(values.max())
    if largest > 1e-6:
        return []
    sentence = f"No logged update is larger than {largest:.1e} of the parameters."
    cause = "params_not_updated" if largest == 0 else "rate_too_low"
    return [
        _finding(cause, "fault", "largest update over parameters", largest, 1e-6, "all parameters", sentence)
    ]


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(4, cause, severity, statistic, float(value), bound, where, sentence)
