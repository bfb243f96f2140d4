r"""Check 7 for reinforcement: is the reward reached, of a sane size, and about the task?

| question | test | cause |
| --- | --- | --- |
| reached | all returns equal over N episodes: P(reward) < 3 / N at 95 % | sparse_reward |
| size | 95th percentile of abs value target <= 10 | reward_scale |
| sign | rank correlation of return and success among neighbours in time (*) | reward_sign |
| the task | return rises over training by more than 2 standard errors, success falls | reward_hacking |
| ends | value targets of terminated steps are the reward alone, of truncated ones are not | bootstrap |

(*) Return and success both drift while a policy learns, so the sign is judged after a running mean of both is
taken off. Where success is lost within a few rows something of the drift stays behind, and a hacked reward
looks like one of the wrong sign; so the correlation among the episodes of a rollout (`policy_updates`), which
no drift touches, is believed instead wherever a run has recorded it. A cost, negative everywhere, correlates
with success as a reward should and is left alone.

References: Jones 2021, Debugging RL, Without the Agonizing Pain; Pan et al. 2022, arXiv:2201.03544; Pardo et
al. 2018, arXiv:1712.00378 (time limits).
"""

import numpy as np
from scipy.ndimage import uniform_filter1d

from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.statistics import correlation_p, trend

FEWEST = 20
_FEWEST_ROLLOUTS = 5
LARGE = 10.0


def findings(patient: Patient) -> list[Result]:
    """All questions that the patient's rewards answer."""
    results = [*scale(patient), *bootstrap(patient)]
    if patient.rewards is None:
        return [*results, NotExamined(7, "whether the reward is reached and is about the task", "`rewards`")]
    rewards = np.asarray(patient.rewards, np.float64)
    returns = rewards if rewards.ndim == 1 else np.nansum(rewards.reshape(len(rewards), -1), axis=1)
    returns = returns[np.isfinite(returns)] if patient.success is None else returns
    if len(returns) < FEWEST:
        return [
            *results,
            NotExamined(7, "the reward over training", f"{FEWEST} episodes; there are {len(returns)}"),
        ]
    results += reached(returns)
    if patient.success is None:
        return [*results, NotExamined(7, "whether the reward is about the task", "`success`")]
    success = np.asarray(patient.success, np.float64)
    if len(success) != len(returns):
        return [
            *results,
            NotExamined(7, "whether the reward is about the task", "as many `success` as `rewards`"),
        ]
    good = np.isfinite(success) & np.isfinite(returns)
    if good.sum() < FEWEST:
        needed = f"{FEWEST} episodes with `success`; there are {good.sum()}"
        return [*results, NotExamined(7, "whether the reward is about the task", needed)]
    within = patient.extra.get("return_with_success")
    known = within is not None and np.isfinite(np.asarray(within, np.float64)).sum() >= _FEWEST_ROLLOUTS
    return [*results, *about(returns[good], success[good], between=not known)]


def reached(returns: np.ndarray) -> list[Result]:
    """Whether any episode was ever told anything."""
    if np.ptp(returns) > 0:
        return []
    count = len(returns)
    bound = 3 / count
    sentence = (
        f"All {count:,} episodes return {returns[0]:g}: with 95 % confidence a reward comes in fewer than "
        f"{bound:.2%} of them, and there is nothing to learn from."
    )
    return [
        Finding(
            7,
            "sparse_reward",
            "fault",
            "episodes with a reward",
            0.0,
            bound,
            f"{count} episodes",
            sentence,
            interval=(0.0, bound),
        )
    ]


def about(returns: np.ndarray, success: np.ndarray, *, between: bool = True) -> list[Result]:
    """Whether more return goes with more success.

    Args:
      returns: (N,) in the order of training.
      success: (N,) of the same episodes or rows.
      between: whether the sign is judged here, between neighbours in time.
    """
    if np.ptp(returns) == 0 or np.ptp(success) == 0:
        return []
    width = max(5, len(returns) // 10)
    local = (returns - uniform_filter1d(returns, width), success - uniform_filter1d(success, width))
    rank, p = correlation_p(*local)
    if between and rank < -0.2 and p < 1e-3:
        sentence = f"At the same time, more return goes with less success (rank correlation {rank:.2f})."
        return [
            Finding(
                7,
                "reward_sign",
                "fault",
                "rank correlation of return and success",
                rank,
                0.0,
                "episodes",
                sentence,
                p=p,
            )
        ]
    time = np.arange(len(returns), dtype=float)
    up, down = trend(time, returns), trend(time, success)
    fifth = max(4, len(returns) // 5)
    gain = returns[-fifth:].mean() - returns[:fifth].mean()
    error = np.hypot(returns[-fifth:].std(), returns[:fifth].std()) / np.sqrt(fifth)
    lost = success[:fifth].mean() - success[-fifth:].mean()
    if (
        up.tau > 0.2
        and up.p < 1e-3
        and gain > 2 * error
        and down.tau < -0.1
        and down.p < 1e-3
        and lost > 0.05 * max(np.ptp(success), 1e-12)
    ):
        sentence = (
            f"Over training the return rises by {gain:.3g} and success falls from "
            f"{success[:fifth].mean():.2f} to {success[-fifth:].mean():.2f}."
        )
        return [
            Finding(
                7,
                "reward_hacking",
                "fault",
                "fall of success while the return rises",
                float(lost),
                0.0,
                "over training",
                sentence,
                p=max(up.p, down.p),
            )
        ]
    return []


def scale(patient: Patient) -> list[Result]:
    """Size of the value targets."""
    targets = patient.extra.get("value_targets")
    if targets is None:
        return [NotExamined(7, "the size of the value targets", 'extra["value_targets"]')]
    targets = np.abs(np.asarray(targets, np.float64).ravel())
    high = float(np.quantile(targets[np.isfinite(targets)], 0.95)) if np.isfinite(targets).any() else 0.0
    if high <= LARGE:
        return []
    severity = (
        "note" if patient.extra.get("returns_normalized") else "fault" if high > 10 * LARGE else "warning"
    )
    sentence = (
        f"Value targets reach {high:,.3g} (95th percentile); a value network wants them within {LARGE:g}."
    )
    return [
        _finding(
            "reward_scale" if severity != "note" else "normal",
            severity,
            "95th percentile of value targets",
            high,
            LARGE,
            "value targets",
            sentence,
        )
    ]


def bootstrap(patient: Patient) -> list[Result]:
    """Value targets at the ends of episodes, r + gamma V(s') (1 - terminated)."""
    names = ("step_rewards", "value_targets", "next_values", "terminated")
    if any(patient.extra.get(name) is None for name in names):
        return []
    reward, target, ahead = (np.asarray(patient.extra[n], np.float64).ravel() for n in names[:3])
    ended = np.asarray(patient.extra["terminated"], bool).ravel()
    cut = np.asarray(patient.extra.get("truncated", np.zeros_like(ended)), bool).ravel() & ~ended
    gamma = float(patient.extra.get("discount", 0.99))
    found = []
    for rows, title, wrong in (
        (ended, "terminated", lambda: np.abs(target - reward)),
        (cut, "truncated", lambda: np.abs(target - reward - gamma * ahead)),
    ):
        ahead_here = np.abs(gamma * ahead[rows])
        if rows.sum() < 5 or np.median(ahead_here) < 1e-6:
            continue
        error = float(np.median(wrong()[rows] / np.maximum(np.abs(gamma * ahead), 1e-9)[rows]))
        if error > 0.5:
            does = (
                "contain the value behind them"
                if title == "terminated"
                else "leave out the value behind them"
            )
            sentence = f"The value targets of {int(rows.sum())} {title} steps {does}."
            found.append(
                _finding(
                    "bootstrap",
                    "fault",
                    "error of the target over the value behind",
                    error,
                    0.5,
                    f"{title} steps",
                    sentence,
                )
            )
    return found


def _finding(cause, severity, statistic, value, bound, where, sentence) -> Finding:
    return Finding(7, cause, severity, statistic, float(value), bound, where, sentence)
