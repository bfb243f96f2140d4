r"""Check 7 for reinforcement, the learner's own side: what became of rollouts on their way into an update.

| question | test, over the rows of a run | cause |
| --- | --- | --- |
| ends | error of value targets at ends over the value behind, median > 0.5 | bootstrap |
| sign | correlation of return and success among the episodes of a rollout, median < -0.2 | reward_sign |
| shown | absolute mean of an observed number > 2, or its deviation > 3, at the end | stale_normalizer |
| axis | share of the advantages' variance between environments, or between steps, < 1e-6 | advantage_axis |
| entropy | deviation < 0.05 in the first half of the run, success under a half | policy_collapse |
| step | clip fraction > 0.6 or k3 > 1, median | policy_step_too_large |

Each is a curve of `extra` by its name: `truncated_error`, `terminated_error`, `return_with_success`,
`seen_mean`, `seen_std`, `advantage_between_envs`, `advantage_between_steps`, `entropy` (with `actions`, how
many dimensions), `clip_fraction`, `kl_k3`. Whoever has arrays gives `advantages` (T, N). A healthy run of
`panda_reach` has a between share of 0.2 over environments and 1e-3 over steps, an observed mean up to 0.9
and a clip fraction up to 0.25.

REINFORCE subtracts the mean of each step, so for it a share of 0 between steps is no finding, and grpo has
one advantage per episode.

References: Jones 2021, Debugging RL, Without the Agonizing Pain; Stable-Baselines3 issue 1593 (a broken run:
KL 33, clip fraction 0.999).
"""

import numpy as np

from ch3_jax.doctor.finding import Finding, Result
from ch3_jax.doctor.patient import Patient

_FEWEST = 5
_ZERO = 1e-6


def findings(patient: Patient) -> list[Result]:
    """All questions that the patient's curves answer; those that it has no curve for are left out."""
    return [
        *_ends(patient),
        *_sign(patient),
        *_shown(patient),
        *_axis(patient),
        *_entropy(patient),
        *_step(patient),
    ]


def _curve(patient: Patient, name: str) -> np.ndarray | None:
    """The finite values of a curve, None where they are too few to speak."""
    values = patient.extra.get(name)
    if values is None:
        return None
    values = np.asarray(values, np.float64).ravel()
    values = values[np.isfinite(values)]
    return values if len(values) >= _FEWEST else None


def _ends(patient: Patient) -> list[Result]:
    found = []
    for kind, does in (
        ("truncated", "leave out the value behind a time limit"),
        ("terminated", "contain a value behind the end"),
    ):
        error = _curve(patient, f"{kind}_error")
        if error is not None and np.median(error) > 0.5:
            sentence = f"Value targets of {kind} steps {does}: they are off by {np.median(error):.0%} of it."
            found.append(
                _finding("bootstrap", "error over the value behind", np.median(error), 0.5, sentence)
            )
    return found


def _sign(patient: Patient) -> list[Result]:
    rank = _curve(patient, "return_with_success")
    if rank is None or len(rank) < 2 * _FEWEST:
        return []
    middle, error = float(np.median(rank)), 1.25 * rank.std() / np.sqrt(len(rank))
    if middle > -0.2 or middle + 3 * error > 0:
        return []
    sentence = (
        f"Among the episodes of one rollout, those with success have less return "
        f"(correlation {middle:.2f}, median of {len(rank)} rows)."
    )
    return [_finding("reward_sign", "correlation of return and success", middle, -0.2, sentence)]


def _shown(patient: Patient) -> list[Result]:
    found = []
    for name, words, bound in (("seen_mean", "a mean", 2.0), ("seen_std", "a deviation", 3.0)):
        values = _curve(patient, name)
        if values is None:
            continue
        last = float(np.median(values[-_FEWEST:]))
        if last > bound:
            sentence = f"An observed number reaches the policy with {words} of {last:.3g} after normalising."
            found.append(_finding("stale_normalizer", f"largest {name}", last, bound, sentence))
    return found[:1]


def _axis(patient: Patient) -> list[Result]:
    shares = {
        "environments": _curve(patient, "advantage_between_envs"),
        "steps": _curve(patient, "advantage_between_steps"),
    }
    raw = patient.extra.get("advantages")
    if raw is not None and np.ndim(raw) == 2:
        raw = np.asarray(raw, np.float64)
        for name, axis in (("environments", 0), ("steps", 1)):
            if raw.shape[1 - axis] < 2:  # one mean has no variance, and says nothing
                continue
            shares[name] = np.var(raw.mean(axis)) / max(np.var(raw), 1e-300)
    if patient.declared.loss_name == "reinforce":
        shares["steps"] = None
    for name, share in shares.items():
        if share is not None and np.median(share) < _ZERO:
            sentence = f"The advantages of all {name} have the same mean: each was normalised by itself."
            return [
                _finding(
                    "advantage_axis", f"variance between {name}", float(np.median(share)), _ZERO, sentence
                )
            ]
    return []


def _entropy(patient: Patient) -> list[Result]:
    """A Gaussian's deviation from its entropy, log sigma = H / A - log(2 pi e) / 2, in its actions' units."""
    entropy, actions = _curve(patient, "entropy"), patient.extra.get("actions")
    if entropy is None or not actions:
        return []
    half = entropy[: max(len(entropy) // 2, 1)]
    deviation = float(np.exp(np.median(half) / actions - 0.5 * np.log(2 * np.pi * np.e)))
    success = None if patient.success is None else np.asarray(patient.success, float)
    success = None if success is None else success[np.isfinite(success)]
    learned = success is not None and len(success) and success[-_FEWEST:].mean() >= 0.5
    if deviation >= 0.05 or learned:
        return []
    sentence = (
        f"In the first half of the run the policy deviates by only {deviation:.2g} of an action's unit."
    )
    return [_finding("policy_collapse", "deviation of the first half", deviation, 0.05, sentence)]


def _step(patient: Patient) -> list[Result]:
    for name, words, bound in (("clip_fraction", "clip fraction", 0.6), ("kl_k3", "KL (k3)", 1.0)):
        values = _curve(patient, name)
        if values is not None and patient.declared.loss_name in (None, "ppo", "grpo"):
            middle = float(np.median(values))
            if middle > bound:
                sentence = f"Half of the rows have a {words} above {middle:.3g}; healthy runs stay under 0.3."
                return [_finding("policy_step_too_large", words, middle, bound, sentence)]
    return []


def _finding(cause: str, statistic: str, value: float, bound: float, sentence: str) -> Finding:
    return Finding(7, cause, "fault", statistic, float(value), bound, "over training", sentence)
