"""How long a robot waits for the policy of each recipe: one call, from observations to a chunk of actions.

The parameters are fresh ones: how long a call takes does not depend on what they say. A call is what a served
run compiles, the sampler or the decoder with its cache inside; it is timed by the wall, with all
processors that the process may use, one robot and fifty at a time, the recipes taking turns.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import recipes
from experiments.benchmarks.settings import Settings
from experiments.flags import RECIPES

STATE, ACTION = 14, 7
_MANY = 50
_BAR_MS = 20.0
# Name in the table -> recipe, flags of its own, whether a call is asked to take less than the bar.
_CONTENDERS = {
    **{name: (name, {}, name in ("openvla", "pi0")) for name in RECIPES},
    "diffusion, DDIM 10": ("diffusion_policy", {"sampler": "ddim", "sampling_steps": 10}, True),
}
_HEAD = ("recipe", "parameters", "calls", "chunk", "p50", "p99", f"p50 of {_MANY}")


def records(settings: Settings) -> Iterator[tuple[dict[str, Any], str]]:
    """One record: a row for every recipe at its scale."""
    yield from _records("tiny" if settings.smoke else "small", settings)


def _records(scale: str, settings: Settings) -> Iterator[tuple[dict[str, Any], str]]:
    made = {name: _Contender(recipe, scale, flags) for name, (recipe, flags, _) in _CONTENDERS.items()}
    seconds = {(name, size): [] for name in made for size in (1, _MANY)}
    for _ in range(settings.rounds):
        for name, size in seconds:
            seconds[name, size] += made[name].calls(size, settings.seconds)
    rows = []
    for name, contender in made.items():
        one, many = (1e3 * np.array(seconds[name, size]) for size in (1, _MANY))
        rows.append(
            {
                "recipe": name,
                "parameters": contender.parameters,
                "calls": contender.network_calls,
                "chunk": contender.chunk,
                "p50_ms": float(np.median(one)),
                "p99_ms": float(np.quantile(one, 0.99)),
                "many_p50_ms": float(np.median(many)),
                "timed": len(one),
            }
        )
    record = {"scale": scale, "rows": rows, "targets": [] if settings.smoke else _targets(rows)}
    yield record, table(record)


class _Contender:
    """A recipe's policy, compiled for one robot and for many."""

    def __init__(self, name: str, scale: str, flags: dict[str, Any]):
        made = recipes.recipe(name, scale)
        made = made._replace(flags=made.flags | flags)
        objective = recipes.objective(made, STATE, ACTION)
        params = jax.jit(objective.init)(jax.random.key(0))
        self.parameters = sum(x.size for x in jax.tree.leaves(params))
        self.chunk = made.flags["horizon"]
        self.network_calls = _network_calls(objective, made.flags)
        by_key = objective.samples and not objective.likeliest
        act = jax.jit(lambda seen, key: objective.act(params, seen, key if by_key else None))
        self._act: Callable = act
        shape = (made.flags["window"], STATE)
        draw = np.random.default_rng(0)
        self._seen = {n: jnp.asarray(draw.normal(size=(n, *shape)), jnp.float32) for n in (1, _MANY)}
        for seen in self._seen.values():
            jax.block_until_ready(act(seen, jax.random.key(0)))

    def calls(self, size: int, seconds: float) -> list[float]:
        """Seconds of each call, until about so many seconds have passed."""
        found, key, began = [], jax.random.key(1), time.perf_counter()
        while not found or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            jax.block_until_ready(self._act(self._seen[size], key))
            found.append(time.perf_counter() - start)
        return found


def _network_calls(objective: Any, flags: dict[str, Any]) -> int:
    """Times that the network is asked for one chunk: steps of a sampler, or words said one after another."""
    if objective.sampler is not None:
        return objective.sampler.calls
    return flags["horizon"] * ACTION if flags["network"].startswith("openvla") else 1


def _targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "text": f"{row['recipe']}: a call for one robot in under {_BAR_MS:g} ms (median)",
            "value": row["p50_ms"],
            "reached": row["p50_ms"] < _BAR_MS,
        }
        for row in rows
        if _CONTENDERS[row["recipe"]][2]
    ]


def table(record: dict[str, Any]) -> str:
    """The record as a person reads it, at most 80 columns."""
    lines = [
        f"One call of each recipe at --scale={record['scale']}, ms by the wall",
        "{:<18}{:>12}{:>7}{:>7}{:>9}{:>9}{:>12}".format(*_HEAD),
    ]
    for row in record["rows"]:
        lines.append(
            f"{row['recipe']:<18}{row['parameters']:>12,}{row['calls']:>7}{row['chunk']:>7}"
            f"{row['p50_ms']:>9.2f}{row['p99_ms']:>9.2f}{row['many_p50_ms']:>12.2f}"
        )
    lines += [f"missed: {t['text']}" for t in record["targets"] if not t["reached"]]
    return "\n".join(lines) + "\n"
