"""The environments of a run over several devices: each drives its share, gradients and moments are averaged.

Parameters, optimizer and moments stand on every device and stay alike; the lanes are divided along their axis
N. On a CPU a device is a part of its cores: XLA computes the many small steps of a rollout on one core, so a
share for each core is what makes two of them faster than one. What is learned depends on the number of
devices, since minibatches are drawn within a share; the same number gives the same bits.

Wait for one iteration before the next is started (`jax.block_until_ready`): the devices of a CPU share a few
threads, and of many programs under way at once each may hold one while it waits for the other half.
"""

import math
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ch3_jax.base import Key
from ch3_jax.errors import InputError
from ch3_jax.reinforcement.settings import Settings
from ch3_jax.reinforcement.state import Iteration, LearnerState

AXIS = "environments"


def compiler_options() -> dict[str, bool] | None:
    """For `jax.jit` of an iteration: on a CPU its small products are faster on one core than on several."""
    return {"xla_cpu_multi_thread_eigen": False} if jax.default_backend() == "cpu" else None


def most_devices(settings: Settings, there: int) -> int:
    """The largest number of devices, up to `there`, that the environments divide over.

    >>> most_devices(Settings(envs=24, minibatches=4), 4)
    3
    """
    return max(d for d in range(1, max(there, 1) + 1) if d == 1 or settings.envs % _least(settings, d) == 0)


def _least(settings: Settings, devices: int) -> int:
    """What the number of environments must be a multiple of."""
    shares = [settings.minibatches] + ([settings.group] if settings.algorithm == "grpo" else [])
    return devices * math.lcm(*shares)


class Spread:
    """A mesh of the first devices, and where each leaf of a state belongs on it.

    Args:
      settings: whose environments, and minibatches and groups of them, must divide by the devices.
      start: key -> state, on one device.
      devices: how many.

    Raises:
      InputError: fewer devices than asked for, or environments that do not divide.
    """

    def __init__(self, settings: Settings, start: Callable[[Key], LearnerState], devices: int):
        there = jax.local_devices()
        least = _least(settings, devices)
        if devices > len(there) or settings.envs % least:
            few = devices > len(there)
            raise InputError(
                f"{settings.envs} environments cannot be spread over {devices} devices",
                got=f"{len(there)} devices" if few else f"--envs={settings.envs}",
                expected=f"{devices} devices" if few else f"a multiple of {least}",
                cause="fewer devices than asked for" if few else "each takes whole minibatches (and groups)",
                fix=f"--devices={len(there)}" if few else f"--envs={-(-settings.envs // least) * least}",
            )
        mesh = Mesh(np.array(there[:devices]), (AXIS,))
        shapes = jax.eval_shape(start, jax.random.key(0))
        self._mesh = mesh
        everywhere, divided = P(), P(AXIS)
        self._specs = jax.tree.map(lambda _: everywhere, shapes)._replace(
            lanes=jax.tree.map(lambda _: divided, shapes.lanes)
        )
        self._shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), self._specs)

    def place(self, state: LearnerState) -> LearnerState:
        """The state over the devices; also one that a checkpoint was restored to."""
        return jax.device_put(state, self._shardings)

    def over(self, iteration: Iteration) -> Iteration:
        """An iteration of a share, made with `axis=AXIS`, as one of all."""
        return jax.shard_map(
            iteration,
            mesh=self._mesh,
            in_specs=(self._specs,),
            out_specs=(self._specs, P()),
            check_vma=False,
        )
