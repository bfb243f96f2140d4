"""The flags' names are the library's, which they cannot import: --help must answer at once."""

import dataclasses

import pytest
from absl import flags as absl_flags

from ch3_jax.errors import InputError
from ch3_jax.noise import corruption, flow, samplers, schedules
from ch3_jax.objectives import OBJECTIVES, options_of
from experiments import flags, job


@pytest.fixture(scope="module")
def options():
    absl_flags.FLAGS.mark_as_parsed()
    return flags.options()


def test_names():
    assert tuple(OBJECTIVES) == flags.LOSSES
    assert (*samplers.SAMPLERS, "consistency") == flags.SAMPLERS
    assert flags.PREDICTIONS == corruption.PREDICTIONS
    assert tuple(flow.TIME_LAWS) == flags.TIME_LAWS
    assert flags.DIRECTIONS == flow.DIRECTIONS
    assert tuple(schedules.SCHEDULES) == flags.NOISE_SCHEDULES


def test_every_option_of_a_loss_is_a_flag_and_every_such_flag_is_somebodys():
    used = {option for name in OBJECTIVES for option in options_of(name)}
    assert set(flags.OF_LOSS) == used - {"latent"}
    assert set(flags.OF_LOSS) <= {field.name for field in dataclasses.fields(flags.Options)}


def test_only_what_was_given_reaches_the_loss(options):
    assert options.of_loss() == {}
    given = dataclasses.replace(options, loss="flow", sampling_steps=3, time_direction="noise_at_1")
    assert given.of_loss() == {"sampling_steps": 3, "time_direction": "noise_at_1"}
    job.rehearse(given)


def test_a_loss_that_cannot_be_built_is_refused_without_data(options):
    for changes, words in (
        ({"loss": "ddpm", "noise_steps": 10, "sampling_steps": 11}, "at most 10"),
        ({"loss": "ddpm", "prediction": "velocity"}, "eps, x0, v"),
        ({"loss": "ce", "components": 3}, "--loss=gmm"),
    ):
        with pytest.raises(InputError, match=words):
            job.rehearse(dataclasses.replace(options, **changes))
