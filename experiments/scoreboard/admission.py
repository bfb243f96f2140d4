r"""Whether a fault hurt: what does no harm is no fault, and counts neither for nor against anybody.

The served policy is compared with its clean twin's - same seed, nothing broken - on clean held-out data.
The rows are cut into 20 stretches; with x_b the log of the mean error of stretch b, broken minus clean,

    p < 0.05 (paired t-test, one-sided),    d = mean(x) / std(x) >= 0.5,    mean(x) >= log 1.05.

Stretches stand in for seeds, of which there may be few; the last condition keeps out what is
certain and small. A broken split leaves the policy alone and falsifies its score: there the question is by
how much the run's own validation error lies under the error on clean data.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

_STRETCHES, _LEAST = 20, 1.05


class Harm(NamedTuple):
    """How much a fault hurt.

    Attributes:
      admitted: whether it counts.
      ratio: error over that of the clean twin, geometric mean over stretches.
      d: Cohen's d of the paired log ratios.
      p: of no harm.
    """

    admitted: bool
    ratio: float
    d: float
    p: float


def harm(broken: np.ndarray, clean: np.ndarray) -> Harm:
    """The harm of a broken run.

    Args:
      broken, clean: (N,) errors on the same rows; infinite where a policy gives no number.

    >>> harm(np.full(100, np.inf), np.ones(100)).admitted
    True
    """
    if not np.all(np.isfinite(broken)):
        return Harm(True, float("inf"), float("inf"), 0.0)
    pairs = zip(np.array_split(broken, _STRETCHES), np.array_split(clean, _STRETCHES), strict=True)
    x = np.array([np.log(max(b.mean(), 1e-12) / max(c.mean(), 1e-12)) for b, c in pairs])
    spread = x.std(ddof=1)
    d = float(x.mean() / spread) if spread > 0 else float(np.sign(x.mean()) * 1e9)
    p = float(stats.ttest_1samp(x, 0, alternative="greater").pvalue) if spread > 0 else float(x.mean() <= 0)
    ratio = float(np.exp(x.mean()))
    return Harm(bool(p < 0.05 and d >= 0.5 and ratio >= _LEAST), ratio, d, p)


def flattered(own: np.ndarray, clean: np.ndarray) -> Harm:
    """The harm of a broken split: how far the run's own validation error lies under that on clean data.

    Args:
      own: (N,) errors of the policy on the rows that the run validates on.
      clean: (M,) errors of the same policy on clean held-out rows.
    """
    own, clean = (np.array([part.mean() for part in np.array_split(x, _STRETCHES)]) for x in (own, clean))
    own, clean = np.log(np.maximum(own, 1e-12)), np.log(np.maximum(clean, 1e-12))
    gap = clean.mean() - own.mean()
    spread = np.sqrt((own.var(ddof=1) + clean.var(ddof=1)) / 2)
    p = float(stats.ttest_ind(clean, own, equal_var=False, alternative="greater").pvalue)
    d = float(gap / spread) if spread > 0 else 0.0
    return Harm(bool(p < 0.05 and d >= 0.5 and gap >= np.log(_LEAST)), float(np.exp(gap)), d, p)
