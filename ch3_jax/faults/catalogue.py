"""The catalogue: every fault by its id, every healthy look-alike, and which half is for tuning.

The split is by mechanism, never by run: what thresholds are tuned on must not come back with another seed.
Within each place the families are sorted by name and dealt in turn, the first to "tuning", the second to
"held out", and so on; the deal starts with "held out" in places of even number. Families that came later are
dealt after the first ones, so that nothing changes its half when the catalogue grows; the faults of the field
are all held out. The rule looks at names only, so no result can have shaped it.

Held out is held out once. After the first look at that half checks were mended for averages (F08), few
rows (G03), wild batches (D04), noisy labels (G02), sampled serving (G09) and padding (F03), and after the
first look at the field for H04, H06 and H07: a score of theirs says that a repair works, and no more. The
first looks are in the README; a clean one needs families that nobody has run yet.
"""

from collections.abc import Iterator

from ch3_jax.faults import healthy, of_data, of_the_field, of_training
from ch3_jax.faults.fault import SEVERITIES, Fault
from ch3_jax.faults.run import Run

FAULTS: dict[str, Fault] = {
    fault.id: fault for fault in (*of_data.FAULTS, *of_training.FAULTS, *of_the_field.FAULTS)
}
"""id -> `Fault`."""

HALVES = ("tuning", "held out")
_LATER = ("camera", "clipping", "warm-up")
_UNSEEN = frozenset(fault.id for fault in of_the_field.FAULTS)


def half(fault: Fault) -> str:
    """Which half a fault is of: "tuning" or "held out".

    >>> half(FAULTS["A01"]) == half(FAULTS["A02"])  # one family
    True
    """
    if fault.id in _UNSEEN:
        return "held out"
    families = {f.family for f in FAULTS.values() if f.place == fault.place and f.id not in _UNSEEN}
    families = sorted(families, key=lambda name: (name in _LATER, name))
    return HALVES[(families.index(fault.family) + (fault.place % 2 == 0)) % 2]


def base(fault: Fault, seed: int) -> Run:
    """The healthy twin of a broken run."""
    return healthy.BASES[fault.base](seed)


def broken(fault: Fault, severity: str, seed: int) -> Run:
    """A broken run.

    Args:
      fault: of `FAULTS`.
      severity: "mild", "middle" or "strong".
      seed: of data, parameters, order and of the change.

    Raises:
      ValueError: an unknown severity.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"`severity` is {severity!r}, expected one of {', '.join(SEVERITIES)}.")
    return fault.change(base(fault, seed), fault.severities[SEVERITIES.index(severity)])


def lookalikes() -> Iterator[Fault]:
    """The faults that have a healthy look-alike."""
    return (fault for fault in FAULTS.values() if fault.lookalike is not None)


def lookalike(fault: Fault, seed: int) -> Run:
    """A healthy run that a careless check takes for the fault.

    Raises:
      ValueError: the fault has none.
    """
    if fault.lookalike is None:
        raise ValueError(f"fault {fault.id} has no healthy look-alike.")
    return fault.lookalike(base(fault, seed))
