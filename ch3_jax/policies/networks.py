"""Networks by name: `mlp`, or `NAME:SIZE` such as `unet:small`.

| name | of | answers |
| --- | --- | --- |
| mlp | any loss | whatever the loss asks, of the loss's own width |
| unet, transformer | Diffusion Policy | a noisy chunk and its level -> a chunk |
| expert, adaptive_expert | pi0, pi0.5 | the same |
| readout | Octo | the same |
| act | ACT | a chunk and its style |
| rt1 | RT-1 | scores of bins, all at once |
| openvla | OpenVLA | scores of words, one after another |
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ch3_jax.errors import InputError
from ch3_jax.policies.action_expert import action_expert
from ch3_jax.policies.chunk_transformer import chunk_transformer
from ch3_jax.policies.conditioned import conditioned_policy
from ch3_jax.policies.denoising_transformer import denoising_transformer
from ch3_jax.policies.latent import latent_policy
from ch3_jax.policies.policy import Conditioned, Policy
from ch3_jax.policies.readout import readout_policy
from ch3_jax.policies.robotics_transformer import robotics_transformer
from ch3_jax.policies.small import small_policy
from ch3_jax.policies.token_decoder import TokenPolicy, token_decoder
from ch3_jax.policies.unet import unet

MLP = "mlp"
SIZES = ("tiny", "small", "paper")
Shape = tuple[int, int]


def _transformer(observation_shape: Shape, action_shape: Shape, size: str, **kind: Any) -> Conditioned:
    # A chunk begins at the newest observation here, so that its first action may see all of them.
    newest = observation_shape[0] - 1
    return denoising_transformer(observation_shape, action_shape, size, first=newest, **kind)


DENOISERS: dict[str, Callable[..., Conditioned]] = {
    "unet": unet,
    "transformer": _transformer,
    "expert": action_expert,
    "adaptive_expert": lambda *given, **kind: action_expert(*given, adaptive=True, **kind),
    "readout": readout_policy,
}
AUTOENCODERS = {"act": chunk_transformer}
CLASSIFIERS = {"rt1": robotics_transformer}
SPEAKERS = {"openvla": token_decoder}
NETWORKS = {**DENOISERS, **AUTOENCODERS, **CLASSIFIERS, **SPEAKERS}


def denoiser(
    network: str, observation_shape: Shape, action_shape: Shape, width: int, dtype=jnp.float32
) -> Conditioned:
    """(params, observation, noisy action, angle) -> (B, H, A).

    Args:
      network: `mlp` or one of `DENOISERS` with a size.
      observation_shape: (W, S).
      action_shape: (H, A).
      width: of an mlp.
      dtype: of the computation.

    Raises:
      InputError: a network that answers something else, an unknown size, a shape that it cannot have.

    >>> denoiser("unet:tiny", (1, 3), (4, 2), 0).apply is None
    False
    """
    if network == MLP:
        return conditioned_policy(observation_shape, action_shape, width, dtype)
    make, size = _of(network, DENOISERS, "takes noise away")
    return make(observation_shape, action_shape, size, dtype=dtype)


def autoencoder(
    network: str, observation_shape: Shape, action_shape: Shape, latent: int, width: int, dtype=jnp.float32
) -> tuple[Conditioned, Conditioned]:
    """Encoder and decoder, as `latent.latent_policy` has them; arguments and refusals as of `denoiser`."""
    if network == MLP:
        return latent_policy(observation_shape, action_shape, latent, width, dtype)
    make, size = _of(network, AUTOENCODERS, "has a latent")
    return make(observation_shape, action_shape, latent, size, dtype=dtype)


def classifier(
    network: str, observation_shape: Shape, outputs: tuple[int, int, int], width: int, dtype=jnp.float32
) -> Policy:
    """(params, observation) -> scores (B, H, A, K); arguments and refusals as of `denoiser`."""
    if network == MLP:
        return small_policy(observation_shape, outputs, width, dtype)
    make, size = _of(network, {**CLASSIFIERS, **SPEAKERS}, "scores bins")
    return make(observation_shape, outputs, size, dtype=dtype)


def speaks(network: str) -> bool:
    """Whether a network says its bins one after another, and so is one of `speaker`.

    >>> speaks("openvla:tiny"), speaks("rt1:tiny")
    (True, False)
    """
    return network.partition(":")[0] in SPEAKERS


def speaker(
    network: str, observation_shape: Shape, action_shape: Shape, count: int, dtype=jnp.float32
) -> TokenPolicy:
    """A model of the words of an action, `count` bins each; arguments and refusals as of `denoiser`."""
    make, size = _of(network, SPEAKERS, "says its bins")
    return make(observation_shape, action_shape, count, size, dtype)


def _of(network: str, table: dict[str, Callable], does: str) -> tuple[Callable, str]:
    name, _, size = network.partition(":")
    if name not in table or size not in (*SIZES, "base"):
        fitting = [MLP, *(f"{known}:{s}" for known in table for s in SIZES)]
        known = name in NETWORKS and name not in table
        raise InputError(
            f"--network={network} is no network that {does}",
            got=network,
            expected=", ".join(fitting),
            cause="a network made for another loss" if known else "a misspelt name, or one without its size",
            fix=f"--network={next(iter(table))}:small, or leave --network out",
        )
    return table[name], size
