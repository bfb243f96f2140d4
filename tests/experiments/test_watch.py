"""The doctor beside a training keeps its own books, says a thing once, and leaves the state alone."""

import jax.numpy as jnp
import numpy as np

from ch3_jax.doctor.patient import Declared
from experiments.watch import Watch


class Clock:
    """Seconds that pass when somebody asks, and when the run is made to take its time."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def watch(clock) -> Watch:
    """A watch over curves alone: nothing of the run is asked while it only looks."""
    made = object.__new__(Watch)
    made._clock, made._spent, made._began = clock, 0.0, clock()
    made._rows, made._said = [], set()
    made._declared = Declared(family="supervised")
    made._run = type("Run", (), {"floor": None})
    return made


def feed(made: Watch, losses, start: int = 0) -> None:
    for i, loss in enumerate(losses):
        made.row(start + 100 * i, {"loss": float(loss), "gradient_norm": float(jnp.float32(1))})


def test_it_is_quiet_until_there_are_rows_and_says_a_thing_once():
    made = watch(clock := Clock())
    feed(made, [1.0] * 5)
    assert made.look() == []
    made._rows.clear()
    feed(made, [*np.geomspace(1, 0.1, 20), np.nan, np.nan])
    (said,) = made.look()
    assert said.startswith("check 5:") and "not finite" in said
    clock.now += 1_000
    assert made.look() == []


def test_it_looks_again_only_when_looking_was_cheap():
    """One look takes 1 s of this clock; at 4 % it may look again when the run is 25 s old."""
    made = watch(clock := Clock())
    feed(made, np.geomspace(1, 0.1, 20))
    assert made.look() == [] and made._spent == 1.0
    clock.now = 10.0
    feed(made, [np.nan] * 4, start=2_000)
    assert made.look() == [] and made._spent == 1.0
    clock.now = 40.0
    assert len(made.look()) == 1 and made._spent == 2.0
