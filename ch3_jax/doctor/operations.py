"""A program walked operation by operation: which is the first that is not finite, or nearest to overflow.

A compiled step says that it went wrong and not where. Its jaxpr is a list of equations; each is evaluated
alone, programs inside it (jit, remat, custom derivatives) are entered, and loops are taken as one operation.
JAX's own checks stop at NaN and pass over an overflow to infinity, or stop at the -inf that a logsumexp
begins with; here a number counts that is not finite although all inputs of its operation are.
"""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

_LIBRARIES = ("/jax/", "/flax/", "/optax/", "/chex/", "/equinox/")


class Operation(NamedTuple):
    """An operation of a program.

    Attributes:
      operation: the primitive, "log".
      dtype: of its output.
      bits: of that type.
      at: " at file.py:12", or "".
      largest: its largest magnitude over the largest of its type; infinite where it is not finite.
    """

    operation: str
    dtype: str
    bits: int
    at: str
    largest: float


def walk(function: Callable, *args: Any, measure: str | None = None) -> Operation | None:
    """The first operation that leaves the finite numbers; None where all stay.

    Args:
      function: traced by JAX.
      *args: its arguments.
      measure: a type, "float16": instead the operation whose output comes nearest to its largest number.

    >>> walk(lambda x: jnp.log(x - 1.0), jnp.float32(1)).operation
    'log'
    """
    closed = jax.make_jaxpr(function)(*args)
    best: list[Operation] = []
    found = _walk(closed.jaxpr, closed.consts, jax.tree.leaves(args), measure, best)
    if measure is None:
        return found
    return max(best, key=lambda operation: operation.largest, default=None)


def _walk(jaxpr: Jaxpr, consts: list, args: list, measure: str | None, best: list) -> Operation | None:
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
    for equation in jaxpr.eqns:
        inputs = [atom.val if isinstance(atom, Literal) else values[atom] for atom in equation.invars]
        inner = next((p for p in equation.params.values() if isinstance(p, ClosedJaxpr)), None)
        enter = (
            inner is not None and len(inner.jaxpr.invars) == len(inputs) and "length" not in equation.params
        )
        if enter and (found := _walk(inner.jaxpr, inner.consts, inputs, measure, best)):
            return found
        variables = list({atom: None for atom in equation.invars if not isinstance(atom, Literal)})
        alone = Jaxpr((), variables, equation.outvars, [equation], debug_info=jaxpr.debug_info)
        outputs = jax.core.eval_jaxpr(alone, (), *(values[v] for v in variables))
        if measure is not None:
            best += [
                _described(equation, x)
                for x in outputs
                if str(getattr(x, "dtype", "")) == measure and not enter
            ]
        elif _finite(inputs) and not _finite(outputs):
            return _described(equation, next(x for x in outputs if not _finite([x])))
        values.update(zip(equation.outvars, outputs, strict=True))
    return None


def _finite(arrays: list) -> bool:
    numbers = [x for x in arrays if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
    return all(bool(jnp.all(jnp.isfinite(x))) for x in numbers)


def _described(equation, output) -> Operation:
    dtype = jnp.result_type(output)
    largest = float(np.max(np.abs(np.asarray(output, np.float64)), initial=0.0)) / float(jnp.finfo(dtype).max)
    return Operation(equation.primitive.name, str(dtype), jnp.finfo(dtype).bits, _source(equation), largest)


def _source(equation) -> str:
    """The innermost line that is not a library's."""
    trace = equation.source_info.traceback
    if trace is None:
        return ""
    frames = traceback.extract_tb(trace.as_python_traceback())
    own = [f for f in frames if not any(library in f.filename for library in _LIBRARIES)]
    frame = (own or frames)[-1] if frames else None
    return f" at {Path(frame.filename).name}:{frame.lineno}" if frame else ""
