r"""Objectives that give the action a distribution: a mixture of Gaussians, a latent variable.

  gmm    -\frac{1}{A} \log \sum_m w_m(o) N(a^*; \mu_m(o), \sigma_m(o)),      BC-GMM
  cvae   \frac{1}{HA} \| a^* - f(o, z) \|_1 + \beta KL( q(z | o, a^*) || N(0, I) ),  z ~ q      ACT

Both can say "left or right" where one number says "straight on": the mixture as long as it has as many
components as there are ways, the latent as long as beta lets it through. With the error as a mean over the
action's numbers, ACT's beta of 10 lets nothing through that would make less than 10 of difference: its
posterior is the prior, and the decoder is the conditional median.

References: Mandlekar et al. 2021, arXiv:2108.03298 (BC-GMM); Zhao et al. 2023, arXiv:2304.13705 (ACT).
"""

import jax
import jax.numpy as jnp

from ch3_jax.base import Array, Batch, Key, Metrics, Params
from ch3_jax.errors import InputError
from ch3_jax.losses import supervised, variational
from ch3_jax.numerics import masked_mean
from ch3_jax.objectives.objective import Objective, Shapes
from ch3_jax.policies import networks
from ch3_jax.policies.small import small_policy
from ch3_jax.probability import mixture

_NARROWEST = 1e-2  # standard deviation in normalised units: on noiseless data the loss has no lower end


def gmm(
    shapes: Shapes, bins: object, *, width: int = 256, dtype=jnp.float32, components: int = 5
) -> Objective:
    """Mixture of Gaussians, one choice of component for all dimensions of an action.

    Args:
      shapes: what the network must fit.
      bins: not looked at.
      width, dtype: of the network.
      components: M, 5 in robomimic.

    Returns:
      An `Objective` in nats per number of the action.
    """
    del bins
    _require_positive("components", components, "5, as in robomimic")
    parts = components * (1 + 2 * shapes.action)
    policy = small_policy((shapes.window, shapes.state), (shapes.horizon, parts), width, dtype)

    def mixture_of(params: Params, observation: Array) -> tuple[Array, Array, Array]:
        raw = policy.apply(params, observation)
        logits, rest = raw[..., :components], raw[..., components:]
        mean, scale = jnp.moveaxis(jnp.reshape(rest, (*rest.shape[:-1], 2, components, shapes.action)), -3, 0)
        return logits, mean, jnp.log(jax.nn.softplus(scale) + _NARROWEST)

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key
        law = mixture_of(params, batch.observation)
        joint = supervised.mixture_nll(*law, batch.action)
        error = jnp.abs(mixture.mode(*law) - batch.action)
        return masked_mean(joint, batch.mask) / shapes.action, {
            "loss_per_dimension": masked_mean(_by_dimension(*law, batch.action), batch.mask, (0, 1)),
            "l1": masked_mean(error, batch.mask, (0, 1)),
        }

    def act(params: Params, observation: Array, key: Key | None = None) -> Array:
        law = mixture_of(params, observation)
        return mixture.mode(*law) if key is None else mixture.sample(key, *law)

    asked = {"components": components, "narrowest": _NARROWEST}
    return Objective(policy.init, loss, act, samples=True, unit="nats", asked=asked)


def cvae(
    shapes: Shapes,
    bins: object,
    *,
    width: int = 256,
    dtype=jnp.float32,
    network: str = networks.MLP,
    beta: float = 10.0,
    latent: int = 32,
) -> Objective:
    """ACT's conditional autoencoder: absolute error plus beta times the KL of its latent.

    Args:
      shapes: what the network must fit.
      bins: not looked at.
      width, dtype, network: see `policies.networks`.
      beta: weight of the KL, 10 in ACT, where a choice between two modes is worth it below about
        (d / 2) / (A ln 2) for a distance d in one of A dimensions.
      latent: Z, 32 in ACT.

    Returns:
      An `Objective`; its metrics have `kl`, nats.
    """
    del bins
    if not 0 <= beta < float("inf"):
        raise InputError(
            "--beta must be 0 or more",
            got=beta,
            expected="a finite number; 10 in ACT, 0.01 lets two demonstrators be told apart",
            cause="a sign that slipped",
            fix="--beta=10",
        )
    shape = (shapes.horizon, shapes.action)
    seen = (shapes.window, shapes.state)
    encoder, decoder = networks.autoencoder(network, seen, shape, latent, width, dtype)

    def init(key: Key) -> Params:
        of_encoder, of_decoder = jax.random.split(key)
        return {"encoder": encoder.init(of_encoder), "decoder": decoder.init(of_decoder)}

    def loss(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        code = encoder.apply(params["encoder"], batch.observation, batch.action, batch.mask)
        mean, log_std = code[:, 0], code[:, 1]
        z = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        decoded = decoder.apply(params["decoder"], batch.observation, z)
        terms = variational.cvae(decoded, batch.action, mean, log_std)
        # One KL per window, so it is weighted as its window is.
        kl = masked_mean(jnp.broadcast_to(terms.kl[:, None], batch.mask.shape), batch.mask)
        l1 = masked_mean(terms.error, batch.mask, (0, 1))
        per_dimension = l1 + beta * kl
        return jnp.mean(per_dimension), {"loss_per_dimension": per_dimension, "l1": l1, "kl": kl}

    def act(params: Params, observation: Array, key: Key | None = None) -> Array:
        z = jnp.zeros((observation.shape[0], latent))
        z = z if key is None else jax.random.normal(key, z.shape)
        return decoder.apply(params["decoder"], observation, z)

    return Objective(init, loss, act, samples=True, asked={"beta": beta})


def _by_dimension(logits: Array, mean: Array, log_std: Array, target: Array) -> Array:
    r"""-log p(a_d | a_1 .. a_{d-1}), (..., A): the joint density taken apart by the chain rule."""
    each = -supervised.gaussian_nll(mean, log_std, jnp.broadcast_to(target[..., None, :], mean.shape))
    so_far = jax.nn.log_softmax(logits)[..., None] + jnp.cumsum(each, axis=-1)
    joint = jax.nn.logsumexp(so_far, axis=-2)
    return -jnp.diff(joint, axis=-1, prepend=jnp.zeros_like(joint[..., :1]))


def _require_positive(name: str, value: int, usual: str) -> None:
    if value < 1:
        raise InputError(
            f"--{name} must be 1 or more",
            got=value,
            expected=f"a whole number of 1 or more; {usual}",
            cause="a flag of 0",
            fix=f"leave --{name} out",
        )
