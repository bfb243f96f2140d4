"""What checks 3, 4 and 5 start from: the patient's loss as a number, fresh parameters, a few batches.

All three need the same things and compile the same programs, so they are prepared once per patient. A patient
that brings too little is told what is missing; a loss that is no scalar is refused in words.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ch3_jax.base import Params, PyTree
from ch3_jax.doctor import trials
from ch3_jax.doctor.finding import NotExamined
from ch3_jax.doctor.parts import rows_of, take
from ch3_jax.doctor.patient import Patient

POOL, HELD, ROWS = 16, 4, 64


class Bench(NamedTuple):
    """A patient, ready for trial steps.

    Attributes:
      loss: (params, batch, key) -> scalar.
      fresh: parameters before the first step; those of the patient where there is no `init`.
      is_fresh: whether `fresh` comes from `init`.
      names: of the leaves.
      four: the first four samples of the first batch.
      pool: batches of at most 64 samples.
      held: a few more, for what must not have been tried on.
    """

    loss: Callable
    fresh: Params
    is_fresh: bool
    names: list[str]
    four: PyTree
    pool: list[PyTree]
    held: list[PyTree]


class _Same:
    """A patient as a key of a cache: equal to itself alone."""

    def __init__(self, patient: Patient):
        self.patient = patient

    def __hash__(self) -> int:
        return id(self.patient)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.patient is self.patient


def missing(patient: Patient, check: int, what: str) -> list[NotExamined]:
    """What a patient lacks for trial steps; empty where nothing."""
    lacks = [f"`{name}`" for name in ("loss", "batches") if getattr(patient, name) is None]
    if patient.init is None and patient.params is None:
        lacks.append("`init` or `params`")
    return [NotExamined(check, what, " and ".join(lacks))] if lacks else []


def bench(patient: Patient) -> Bench:
    """The patient on the bench; the last one is kept.

    Raises:
      InputError: a loss that is no scalar or cannot be traced.
    """
    return _bench(_Same(patient))


@functools.lru_cache(maxsize=1)
def _bench(key: _Same) -> Bench:
    patient = key.patient
    fresh = patient.params if patient.init is None else _initial(patient)
    first = _on_host(patient.batches(0))
    loss = trials.scalar_loss(patient, fresh, first)
    rows = rows_of(first)
    batches = [first, *(_on_host(patient.batches(step)) for step in range(1, POOL + HELD))]
    pool = [take(batch, slice(0, min(rows, ROWS))) for batch in batches if rows_of(batch) == rows]
    if len(pool) <= HELD:
        pool = [*pool, *pool[-1:] * HELD]
    four = take(first, np.arange(4) % rows)
    return Bench(
        loss, fresh, patient.init is not None, trials.leaf_names(fresh), four, pool[:-HELD], pool[-HELD:]
    )


def _initial(patient: Patient) -> Params:
    try:
        return jax.jit(patient.init)(jax.random.key(0))
    except jax.errors.JAXTypeError:  # An init that is no pure function of its key still makes parameters.
        return patient.init(jax.random.key(0))


def _on_host(batch: PyTree) -> PyTree:
    """Arrays of numpy: exchanging rows there compiles nothing."""
    return jax.tree.map(lambda x: x if _is_key(x) else np.asarray(x), batch)


def _is_key(x: object) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
