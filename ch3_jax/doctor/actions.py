"""Check 1: the numbers of the actions, before a single step is trained on them.

Each question is a file of its own: units, grippers, ranges, beginnings, what the action means, the
splits, and what a run makes of the numbers. A question that raises is left open and named; the others are
still asked.
"""

from collections.abc import Callable, Iterable

import numpy as np

from ch3_jax.data import audit as audits
from ch3_jax.data.episodes import Dataset
from ch3_jax.doctor import grippers, meaning, normalised, parity, ranges, splits, starts, units
from ch3_jax.doctor.finding import Finding, NotExamined, Result
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.relation import Relation
from ch3_jax.doctor.seen import relation_of, view_of
from ch3_jax.doctor.view import View, plain

# What `audit` says beside what is examined here, as true notes.
_NOTES = {
    "angle_wrap": "angle_wrap",
    "constant_dimensions": "constant_dimension",
    "held_dimensions": "normal",
    "scale_spread": "normal",
    "repeated_actions": "normal",
}


def check(patient: Patient) -> list[Result]:
    """Examines the actions of a data set, and what the run makes of them.

    Args:
      patient: `dataset`, and where there are any `batches`, `normalizers`, `statistics`, `serve`.

    Returns:
      Findings of check 1.
    """
    if patient.dataset is None:
        found: list[Result] = [NotExamined(1, "action statistics", "`dataset`: episodes")]
        return found + _asked("inputs and targets as the run sees them", normalised.as_seen, patient, set())
    view = view_of(patient.dataset)
    found = _whole(view)
    if not len(view.steps):
        return [*found, NotExamined(1, "action statistics", "an episode of finite numbers")]
    relation = _guarded(lambda: relation_of(patient.dataset))
    said = patient.declared.action_meaning
    found += _asked("units", units.mixed_units, view, relation)
    found += _asked("outliers", ranges.outliers, view)
    found += _asked("tiny ranges", ranges.tiny_ranges, view)
    found += _asked("limits", ranges.clipped, view)
    found += _asked("grippers", grippers.inverted, view)
    found += _asked("first actions", starts.zero_first, view)
    found += _asked("standstill", starts.idle_starts, view, relation)
    text = said or view.facts.action_meaning
    found += _asked("meaning of the action", meaning.contradicted, view, relation, text, said is not None)
    found += _asked("splits", splits.shared, view)
    found += _asked("stored statistics", normalised.stale, patient, view)
    causes = {f.cause for f in found if isinstance(f, Finding) and f.alarm}
    names = {f.where.split(",")[0].removeprefix("action dimension ") for f in found if isinstance(f, Finding)}
    found += _asked("the normaliser", normalised.amplified, patient, view, names)
    found += _asked("batches", normalised.as_seen, patient, causes)
    found += _asked("serving", parity.served, patient, view)
    return found + _asked("facts", _facts, view)


def _whole(view: View) -> list[Result]:
    if not view.left_out:
        return []
    return [
        NotExamined(
            1,
            f"{view.left_out} episodes with NaN or infinity (check 5 names them)",
            "finite numbers: those episodes are left out of the statistics",
        )
    ]


def _facts(view: View) -> Iterable[Finding]:
    """True sentences without an alarm, from the audit of the sample."""
    whole = view.whole
    yield Finding(
        1,
        "normal",
        "note",
        "steps looked at",
        len(view.steps),
        None,
        f"split {plain(view.split)}",
        f"{len(whole):,} steps in {whole.episodes:,} episodes of split {plain(view.split)}, "
        f"{len(view.observation_names)} observation and {len(view.action_names)} action dimensions"
        f"{view.sampled}.",
        numbers={"steps": len(whole), "episodes": whole.episodes},
    )
    dataset = Dataset(view.facts, {view.split: view.steps})
    for fact in audits.audit(dataset):
        if fact.id in _NOTES:
            yield Finding(
                1,
                _NOTES[fact.id],
                "note",
                fact.id.replace("_", " "),
                float(next(iter(fact.numbers.values()), np.nan)),
                None,
                "dimensions " + ", ".join(fact.dimensions[:4]) if fact.dimensions else "all episodes",
                fact.sentence.removesuffix(".") + f"{view.sampled}.",
                numbers=fact.numbers,
            )


def _asked(what: str, question: Callable[..., Iterable[Result]], *arguments) -> list[Result]:
    """The answers, or the words of what was raised: one question never silences the others."""
    if any(isinstance(a, Exception) for a in arguments):
        return []
    try:
        return list(question(*arguments))
    except Exception as error:  # Data and the patient's own functions may raise anything.
        words = (str(error).strip().splitlines() or ["no words"])[0][:160]
        return [NotExamined(1, what, f"an examination without {type(error).__name__}: {words}")]


def _guarded(make: Callable[[], Relation]) -> Relation | Exception:
    try:
        return make()
    except Exception as error:  # As above.
        return error
