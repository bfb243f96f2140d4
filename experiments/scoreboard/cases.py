"""What the scoreboard runs: broken runs, clean runs, and healthy runs that look broken."""

import hashlib
from typing import NamedTuple

from ch3_jax.faults import catalogue, healthy
from ch3_jax.faults.fault import SEVERITIES
from ch3_jax.faults.run import Run

FAULT, CLEAN, LOOKALIKE = "fault", "clean", "look-alike"


class Settings(NamedTuple):
    """How much is run.

    Attributes:
      seeds: of every fault and severity.
      severities: which of "mild", "middle", "strong".
      healthy: healthy runs in all, every second of them a look-alike.
      steps: at most so many updates; None for those of each base.
      faults: ids, empty for all.
      checks: of the doctor.
      half: "tuning" or "held out", "" for both.
      first: seed; another one makes other runs of everything.
    """

    seeds: int
    severities: tuple[str, ...]
    healthy: int
    steps: int | None
    faults: tuple[str, ...] = ()
    checks: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    half: str = ""
    first: int = 100


class Case(NamedTuple):
    """One run to examine.

    Attributes:
      kind: "fault", "clean" or "look-alike".
      name: id of the fault, or of the one that is looked like; key of `BASES` for a clean run.
      severity: of a fault, "" for others.
      seed: of everything.
    """

    kind: str
    name: str
    severity: str
    seed: int

    @property
    def key(self) -> str:
        """Unique, for resuming."""
        return "/".join((self.kind, self.name, self.severity, str(self.seed)))


def cases(settings: Settings) -> list[Case]:
    """All cases, those that share a compiled program beside one another.

    Seeds of the two halves do not meet: tuning has even ones, held out odd ones.
    """
    chosen = [f for f in catalogue.FAULTS.values() if not settings.faults or f.id in settings.faults]
    found = []
    for fault in chosen:
        odd = catalogue.half(fault) == "held out"
        for severity in (s for s in SEVERITIES if s in settings.severities):
            found += [
                Case(FAULT, fault.id, severity, settings.first + 2 * i + odd) for i in range(settings.seeds)
            ]
    alike = [f.id for f in catalogue.lookalikes()]
    bases = list(healthy.BASES)
    for i in range(settings.healthy):
        kind, names = ((CLEAN, bases), (LOOKALIKE, alike))[i % 2]
        found.append(Case(kind, names[i // 2 % len(names)], "", 10 * settings.first + i))
    found = [case for case in found if settings.half in ("", half_of(case))]
    return sorted(found, key=lambda case: (base_of(case), case.name, case.severity, case.seed))


def base_of(case: Case) -> str:
    """Key of `BASES`."""
    return case.name if case.kind == CLEAN else catalogue.FAULTS[case.name].base


def half_of(case: Case) -> str:
    """ "tuning" or "held out": of a fault and its look-alike by family, of a clean run by its seed."""
    if case.kind == CLEAN:
        digest = hashlib.sha256(case.key.encode()).digest()
        return catalogue.HALVES[digest[0] % 2]
    return catalogue.half(catalogue.FAULTS[case.name])


def run_of(case: Case, settings: Settings) -> Run:
    """The run of a case."""
    if case.kind == CLEAN:
        run = healthy.BASES[case.name](case.seed)
    elif case.kind == LOOKALIKE:
        run = catalogue.lookalike(catalogue.FAULTS[case.name], case.seed)
    else:
        run = catalogue.broken(catalogue.FAULTS[case.name], case.severity, case.seed)
    return shortened(run, settings)


def shortened(run: Run, settings: Settings) -> Run:
    """At most `settings.steps` updates."""
    if settings.steps is None or run.steps <= settings.steps:
        return run
    return run._replace(steps=max(settings.steps // run.every, 1) * run.every)
