"""Check 7: what only one family of losses can have.

Where does the signal come from? A person who chose an action (supervised), an environment that scored it
(reinforcement), or noise that was added to it (diffusion, flow). Each has its own ways to fail, and its own
tests:

  supervised     first loss against theory, demonstrators that disagree, noisy labels (`modes`)
  noise models   schedules and samplers (`samplers`), sampled actions against demonstrated ones
  reinforcement  rewards and value targets (`rewards`)

One test that raises is told as not examined, and the others go on.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from scipy import stats

from ch3_jax.doctor import modes, policy_updates, rewards, samplers, trials
from ch3_jax.doctor.bench import bench, missing
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.parts import part
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.theory import expected

FEW = 100
_BATCHES = 4


def check(patient: Patient) -> list[Result]:
    """The tests of the declared family; of an undeclared one those that the patient's parts allow."""
    family = patient.declared.family
    noisy = family in ("diffusion", "flow") or (family is None and patient.process is not None)
    learned = family == "reinforcement" or (family is None and patient.rewards is not None)
    tests: list[tuple[str, Callable[[Patient], list[Result]]]] = []
    if not learned:
        tests += [("the first loss", first_loss), ("the number of demonstrations", few)]
        tests += [("whether demonstrators agree", modes.findings)]
    if noisy:
        tests += [("the sampler", samplers.findings), ("sampled actions", sampled)]
    if learned:
        tests += [("the reward", rewards.findings), ("policy updates", policy_updates.findings)]
    results: list[Result] = []
    for what, test in tests:
        try:
            results += test(patient)
        except Exception as error:  # A patient's own functions may raise anything; the other tests go on.
            words = (str(error).strip().splitlines() or ["no message"])[0][:160]
            results.append(NotExamined(7, what, f"no exception ({type(error).__name__}: {words})"))
    return results


def first_loss(patient: Patient) -> list[Result]:
    """The loss of fresh parameters against that of a head that says nothing."""
    known = expected(patient).first
    if missing(patient, 7, "the first loss") or patient.init is None or known is None:
        return []
    b = bench(patient)
    loss = trials.value_and_grad(b.loss)
    values = [float(loss(b.fresh, batch, jax.random.key(i))[0]) for i, batch in enumerate(b.held)]
    mean, name = float(np.mean(values)), (patient.declared.loss_name or "").lower()
    if not math.isfinite(mean) or known <= 0:
        return []
    ratio = mean / known
    bound = 1.5 if name in ("ce", "cross_entropy") else 10.0
    sentence = f"The loss before the first step is {mean:.4g}; a head that says nothing has {known:.4g}."
    if ratio < bound:
        return [
            _finding("normal", "note", "first loss over theory", ratio, bound, "fresh parameters", sentence)
        ]
    x = part(b.pool[0], "input")
    large = float(np.max(np.abs(x))) if x is not None and np.isfinite(x).all() else 0.0
    spread = float(np.max(x.std(axis=0))) if x is not None else 0.0
    if spread < 5 and large < 30:
        return [
            _finding("normal", "note", "first loss over theory", ratio, bound, "fresh parameters", sentence)
        ]
    sentence += f" Its inputs reach {large:.3g}, with a standard deviation of up to {spread:.3g}."
    return [
        _finding(
            "unnormalized_inputs",
            "warning",
            "first loss over theory",
            ratio,
            bound,
            "fresh parameters",
            sentence,
        )
    ]


def few(patient: Patient) -> list[Result]:
    """The number of demonstrations, for a person to know; it is never an alarm by itself."""
    if patient.dataset is None or "train" not in patient.dataset.splits:
        return []
    steps = patient.dataset.splits["train"]
    if steps.episodes >= FEW or (np.diff(steps.offset) <= 1).all():
        return []
    sentence = f"{steps.episodes} demonstrations to learn from; under {FEW}, expect a gap to held-out ones."
    return [
        _finding(
            "too_few_demonstrations",
            "note",
            "demonstrations",
            steps.episodes,
            FEW,
            "training split",
            sentence,
        )
    ]


def sampled(patient: Patient) -> list[Result]:
    """Sampled actions against demonstrated ones of the same observations, dimension by dimension.

    The 1-Wasserstein distance of the two marginals over the demonstrated spread. Both come from the same
    observations, so a perfect policy has the same marginal; the null is the distance of two halves.
    """
    if patient.act is None or patient.params is None or patient.batches is None:
        return [NotExamined(7, "sampled actions against demonstrated ones", "`act`, `params` and `batches`")]
    act = jax.jit(patient.act)
    params = patient.params if patient.ema is None else patient.ema
    drawn, shown = [], []
    for step in range(_BATCHES):
        batch = patient.batches(step)
        found = np.asarray(act(params, batch.observation, jax.random.key(step)), np.float64)
        mask = np.asarray(batch.mask)
        drawn.append(found[mask])
        shown.append(np.asarray(batch.action, np.float64)[mask])
    x, y = np.concatenate(drawn), np.concatenate(shown)
    if not np.isfinite(x).all():
        sentence = f"{np.mean(~np.isfinite(x)):.0%} of the sampled numbers are not finite."
        return [
            _finding(
                "zero_snr_division",
                "fault",
                "share of samples that are not finite",
                np.mean(~np.isfinite(x)),
                0.0,
                "samples",
                sentence,
            )
        ]
    spread = np.where(y.std(0) > 0, y.std(0), 1.0)
    distance = np.array([stats.wasserstein_distance(a, b) for a, b in zip(x.T, y.T, strict=True)]) / spread
    j = int(np.argmax(distance))
    ratio = float(x[:, j].std() / spread[j])
    names = () if patient.dataset is None else patient.dataset.facts.action_names
    name = names[j] if len(names) == len(distance) else str(j)
    severity = "fault" if distance[j] > 1 else "warning" if distance[j] > 0.5 else "note"
    sentence = (
        f"Sampled actions of dimension {name} lie {distance[j]:.2f} standard deviations from demonstrated "
        f"ones of the same observations; their spread is {ratio:.2f} of the demonstrated one."
    )
    cause = "normal" if severity == "note" else "sampled_off_distribution"
    return [
        _finding(
            cause,
            severity,
            "distance of sampled and demonstrated actions",
            distance[j],
            0.5,
            f"action dimension {name}",
            sentence,
        )
    ]


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(7, cause, severity, statistic, float(value), bound, where, sentence)
