"""Why a step was not finite: the one bad step, replayed slowly, names its first bad operation.

The compiled step only says *that* something went wrong (its norms are computed anyway, so that costs
nothing). The replay walks the step's jaxpr one equation at a time and stops at the first whose inputs
are finite and whose output is not. JAX's own tools do not answer this: checkify's float checks look for
NaN and miss an overflow to infinity, `jax_debug_infs` stops at the -inf that every logsumexp
starts from.
"""

import traceback
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from ch3_jax.base import Batch, PyTree
from ch3_jax.numerics import sums_of_squares, tree_norm
from ch3_jax.training.update import LossFn, TrainState

_LIBRARIES = ("/jax/", "/flax/", "/optax/", "/chex/")


class Blame(NamedTuple):
    """Where a step first left the finite numbers.

    Attributes:
      step: the step that could not be taken.
      leaf: name of the first non-finite quantity: "batch.observation", "params/hidden_1/kernel", "loss",
        "gradient/heads/bias", "squared norm of gradient/heads/bias"; None if the replay was finite.
      index: position of its first non-finite entry.
      dimensions: action dimensions whose loss is not finite.
      largest: the largest absolute value in the batch's observations and actions, NaN above all.
      largest_at: where it stands: "observation[17, 0, 3]" is sample 17, step 0 of the window, dimension 3.
      operation: the first primitive with finite inputs and a non-finite output, or None.
      source: "file.py:12 in function", or None.
    """

    step: int
    leaf: str | None
    index: tuple[int, ...]
    dimensions: tuple[int, ...]
    largest: float
    largest_at: str
    operation: str | None
    source: str | None

    def __str__(self) -> str:
        if self.leaf is None:
            return f"step {self.step}: not finite in the compiled step, finite when replayed alone"
        where = f"{self.leaf}{list(self.index)}" if self.index else self.leaf
        text = f"step {self.step}: first non-finite value is {where}"
        if self.operation:
            text += f", made by `{self.operation}`" + (f" at {self.source}" if self.source else "")
        if self.dimensions:
            text += f"; the loss of action dimension {', '.join(map(str, self.dimensions))} is not finite"
        return f"{text}; the batch's largest number is {self.largest_at} = {self.largest:.3g}"


def explain(loss_fn: LossFn, state: TrainState, batch: Batch) -> Blame:
    """Replays the step that `state` could not take.

    Args:
      loss_fn: as given to `make_update`.
      state: the last good state, as the frozen run left it.
      batch: what the bad step saw.

    Returns:
      A `Blame`.
    """

    def step(params, batch):
        key = jax.random.fold_in(state.key, state.step)
        (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params, batch, key)
        squares = sums_of_squares(gradient)
        return {
            "metrics": metrics,
            "loss": loss,
            "gradient": gradient,
            "squares": squares,
            "norm": tree_norm(squares),
        }

    out = step(state.params, batch)
    leaf, index = _first_nonfinite(
        ("batch", batch._asdict()),
        ("params", state.params),
        ("loss", out["loss"]),
        ("gradient", out["gradient"]),
        ("squared norm of gradient", out["squares"]),
        ("gradient norm", out["norm"]),
    )
    closed = jax.make_jaxpr(step)(state.params, batch)
    found = _walk(closed.jaxpr, closed.consts, jax.tree.leaves((state.params, batch)))
    largest, largest_at = _largest(batch)
    per_dimension = np.asarray(out["metrics"].get("loss_per_dimension", ()), np.float32)
    return Blame(
        step=int(state.step),
        leaf=leaf,
        index=index,
        dimensions=tuple(np.flatnonzero(~np.isfinite(per_dimension)).tolist()),
        largest=largest,
        largest_at=largest_at,
        operation=found and found[0],
        source=found and found[1],
    )


def _first_nonfinite(*named: tuple[str, PyTree]) -> tuple[str | None, tuple[int, ...]]:
    for name, tree in named:
        for path, leaf in jax.tree.leaves_with_path(tree):
            bad = ~np.isfinite(np.asarray(leaf, np.float32))
            if bad.any():
                inner = "/".join(
                    str(getattr(p, "key", getattr(p, "idx", getattr(p, "name", p)))) for p in path
                )
                where = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
                return f"{name}/{inner}" if inner else name, where
    return None, ()


def _largest(batch: Batch) -> tuple[float, str]:
    def magnitude(array) -> np.ndarray:
        return np.nan_to_num(np.abs(np.asarray(array, np.float64)), nan=np.inf)

    name = max(("observation", "action"), key=lambda n: magnitude(getattr(batch, n)).max())
    array = np.asarray(getattr(batch, name))
    where = np.unravel_index(np.argmax(magnitude(array)), array.shape)
    return float(array[where]), f"{name}[{', '.join(map(str, where))}]"


def _walk(jaxpr: Jaxpr, consts: list[Any], args: list[Any]) -> tuple[str, str | None] | None:
    """The first equation that makes a non-finite number from finite ones, inner programs included."""
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

    for equation in jaxpr.eqns:
        variables = list({atom: None for atom in equation.invars if not isinstance(atom, Literal)})
        # One equation as a program of its own, so that JAX's public evaluator runs it.
        alone = Jaxpr((), variables, equation.outvars, [equation], debug_info=jaxpr.debug_info)
        outputs = jax.core.eval_jaxpr(alone, (), *(values[v] for v in variables))
        inputs = [atom.val if isinstance(atom, Literal) else values[atom] for atom in equation.invars]
        if _finite(inputs) and not _finite(outputs):
            inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
            if isinstance(inner, ClosedJaxpr) and len(inner.jaxpr.invars) == len(inputs):
                found = _walk(inner.jaxpr, inner.consts, inputs)
                if found:
                    return found
            return equation.primitive.name, _source(equation)
        values.update(zip(equation.outvars, outputs, strict=True))
    return None


def _finite(arrays: list[Any]) -> bool:
    numbers = [x for x in arrays if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    return all(bool(jnp.all(jnp.isfinite(x))) for x in numbers)


def _source(equation) -> str | None:
    """The innermost line of the equation's traceback that is not a library's."""
    trace = equation.source_info.traceback
    if trace is None:
        return None
    frames = traceback.extract_tb(trace.as_python_traceback())
    own = [f for f in frames if not any(library in f.filename for library in _LIBRARIES)]
    frame = (own or frames)[-1] if frames else None
    return frame and f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
