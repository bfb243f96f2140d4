"""A trained `Run` as the doctor's `Patient`: everything that the run knows about itself, and no more.

The functions are those that trained - with the mistake in them, where it is one of code - because that is
what a person would hand over.
"""

import jax.numpy as jnp

from ch3_jax.doctor.history import History
from ch3_jax.doctor.patient import Declared, Patient
from ch3_jax.faults import train as training
from ch3_jax.faults.train import Trained

_FAMILY = {"flow": "flow", "ddpm": "diffusion", "denoising": "diffusion"}


def patient_of(trained: Trained, name: str = "run", *, history: bool = True) -> Patient:
    """The patient.

    Args:
      trained: any run.
      name: that the report shows.
      history: False leaves the curves out.
    """
    ready, run, made = trained.ready, trained.ready.run, trained.ready.program
    return Patient(
        name,
        dataset=run.dataset,
        batches=lambda step: made.batch(ready.data, jnp.asarray(step, jnp.int32)),
        init=made.objective.init,
        loss=made.loss,
        optimizer=made.optimizer(run.learning_rate),
        params=trained.state.params,
        ema=trained.state.ema,
        opt_state=trained.state.opt_state.inner,
        act=made.acting.act,
        serve=lambda seen: training.act(trained)(seen[:, -1])[:, None],
        history=History(trained.history, source="memory") if history else None,
        normalizers=ready.normalizers,
        statistics=ready.statistics,
        floor=run.floor,
        declared=_declared(trained),
        **_noise(trained),
    )


def _declared(trained: Trained) -> Declared:
    run, kind = trained.ready.run, trained.ready.kind
    facts = {
        "family": _FAMILY.get(run.loss, "supervised"),
        "loss_name": run.loss,
        "batch_size": run.batch_size,
        "steps": run.steps,
        "steps_per_epoch": kind.rows // run.batch_size,
        "bins": run.bins if run.loss == "ce" else None,
        "learning_rate": run.learning_rate,
        "schedule": lambda step: run.learning_rate * min(1.0, (step + 1) / max(run.warmup, 1)),
        "clip": run.clip,
        "ema_decay": run.ema,
        "resumed_at": () if run.reset_at is None else (run.reset_at,),
        "dtype": "float32",
    }
    return Declared(**facts | dict(run.declared))


def _noise(trained: Trained) -> dict:
    """What the network was trained to say, at the first held-out observation, and the sampler that acts."""
    made = trained.ready.program
    if made.objective.denoiser is None or made.acting.sampler is None:
        return {}
    seen = trained.ready.held_out.observation[:1][:, None]

    def network(count: int):
        many = jnp.broadcast_to(seen, (count, *seen.shape[1:]))
        return made.objective.denoiser(trained.params, many)

    denoiser = network(1)._replace(apply=lambda x, t: network(len(x)).apply(x, t))
    return {"denoiser": denoiser, "process": denoiser.process, "sampler": made.acting.sampler}
