"""A small healthy run as plain functions, and the ways to break it that the tests of the doctor share."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ch3_jax.base import Batch
from ch3_jax.doctor.patient import Declared, Patient

S, A, H, WIDTH, B = 5, 2, 3, 24, 16
GAIN = np.random.default_rng(7).normal(size=(S, A)).astype(np.float32) / np.sqrt(S)


def batches(step, noise=0.1):
    """Actions that are a linear map of the observation; three windows run past the end."""
    rng = np.random.default_rng(100 + step)
    seen = rng.normal(size=(B, 1, S)).astype(np.float32)
    done = np.repeat(seen @ GAIN, H, axis=1) + noise * rng.normal(size=(B, H, A)).astype(np.float32)
    mask = np.ones((B, H), bool)
    mask[:3, 2] = False
    return Batch(seen, done, mask)


def init(key):
    one, two, three = jax.random.split(key, 3)
    return {
        "encoder": {"kernel": jax.random.normal(one, (S, WIDTH)) / S**0.5, "bias": jnp.zeros(WIDTH)},
        "hidden": {"kernel": jax.random.normal(two, (WIDTH, WIDTH)) / WIDTH**0.5, "bias": jnp.zeros(WIDTH)},
        "head": {"kernel": 0.1 * jax.random.normal(three, (WIDTH, A)), "bias": jnp.zeros(A)},
    }


def apply(params, observation):
    x = observation[:, -1]
    for name in ("encoder", "hidden"):
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"][None])
    return x @ params["head"]["kernel"] + params["head"]["bias"][None]


def errors(params, batch):
    return jnp.square(apply(params, batch.observation)[:, None] - batch.action).mean(-1)


def mean(x, mask):
    return jnp.sum(jnp.where(mask, x, 0)) / jnp.sum(mask)


def mse(params, batch, key):
    del key
    return mean(errors(params, batch), batch.mask)


ADAM = optax.adam(1e-2)
HEALTHY = Patient(
    "healthy",
    batches=batches,
    init=init,
    loss=mse,
    optimizer=ADAM,
    declared=Declared(family="supervised", loss_name="mse", steps=1000),
)


def patient(**changes):
    """The healthy run with some parts exchanged; `declared_...` changes a declared fact."""
    facts = {k.removeprefix("declared_"): changes.pop(k) for k in list(changes) if k.startswith("declared_")}
    declared = dataclasses.replace(HEALTHY.declared, **facts)
    return dataclasses.replace(HEALTHY, declared=declared, **changes)


def alarms(results):
    """(cause, severity) of the findings that ask a person to look."""
    return sorted((r.cause, r.severity) for r in results if getattr(r, "alarm", False))


def causes(results):
    return {cause for cause, _ in alarms(results)}
