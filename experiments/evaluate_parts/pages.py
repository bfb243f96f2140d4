"""The evaluation as a record and as a page of 80 columns."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluate_parts.driven import Done, Request
from experiments.run_folder import plain, write_json

_WIDTH = 80


def record(request: Request, done: Done, notes: list[str], wall_s: float) -> dict[str, Any]:
    """Everything that is said, as plain JSON."""
    task, score, driven = request.task, done.score, done.driven
    period = 1 / task.rate_hz
    batch, alone = _quantiles(driven.calls_s), _quantiles(done.alone_s)
    return plain(
        {
            "run": request.run,
            "loss": request.policy.loss,
            "step": request.policy.step,
            "task": task.name,
            "actions": "sampled" if request.sampled else "likely",
            "window": request.policy.shapes.window,
            "horizon": request.policy.shapes.horizon,
            "execute": request.execute,
            "ensemble": request.ensemble,
            "episodes": len(driven.outcomes),
            "first_seed": request.seeds[0],
            "errors": score.errors,
            "success": score.success._asdict() | {"counted": "at the end" if task.held else "at any step"},
            "success_ever": score.ever,
            "success_at_end": score.kept,
            "score": {"mean": score.score, "standard_error": score.score_error, "is": task.score},
            "length": {"mean": score.length, "first_success": score.first, "limit": task.steps},
            "ways": done.ways,
            "clipped": driven.clipped,
            "latency_ms": {
                "one": alone,
                "all": batch,
                "robots": request.parallel,
                "calls": len(driven.calls_s),
            },
            "control": {
                "period_ms": 1e3 * period,
                "call_share_of_period": alone["p99"] / (1e3 * period),
                "call_share_of_executed": alone["p99"] / (1e3 * period * request.execute),
            },
            "seconds": {
                "driving": driven.wall_s,
                "policy": float(driven.calls_s.sum()),
                "starting": done.start_s,
                "all": wall_s,
            },
            "policy_share": float(driven.calls_s.sum() / max(driven.wall_s, 1e-9)),
            "notes": notes,
            "outcomes": [
                {
                    "seed": o.seed,
                    "score": o.score,
                    "success": o.success,
                    "success_at_end": o.kept,
                    "length": o.length,
                    "first_success": o.first,
                    "error": o.error,
                }
                for o in driven.outcomes
            ],
        }
    )


def text(r: dict[str, Any]) -> str:
    """The page."""
    s, length, control = r["success"], r["length"], r["control"]
    how = (
        f"temporal ensemble, m = {r['ensemble']:g}"
        if r["ensemble"] is not None
        else f"{r['execute']} of {r['horizon']} actions executed"
    )
    often = "a step" if r["execute"] == 1 else f"every {r['execute']} steps"
    rows = [
        ("run", f"{r['run']}, {r['loss']}, step {r['step']:,}"),
        ("task", f"{r['task']}, {r['episodes']} starts, seeds from {r['first_seed']}"),
        ("policy", f"{r['actions']} action, {how}"),
        (
            "success",
            f"{s['rate']:.1%} [{s['low']:.1%}, {s['high']:.1%}] of {s['episodes']}, {s['counted']}",
        ),
        ("", f"{r['success_ever']:.1%} at any step, {r['success_at_end']:.1%} at the last one"),
        ("score", f"{r['score']['mean']:.3f} +- {r['score']['standard_error']:.3f}, {r['score']['is']}"),
        ("length", f"{length['mean']:.0f} steps of {length['limit']}" + _of_successes(length)),
        ("errors", f"{r['errors']} episodes in which the simulator raised; counted apart"),
    ]
    if r["ways"] is not None:
        rows.append(("ways", ", ".join(f"{name} {share:.0%}" for name, share in r["ways"].items())))
    if r["clipped"]:
        rows.append(("clipped", f"{r['clipped']:.2%} of the action's numbers lay outside the bounds"))
    one, many, robots = (r["latency_ms"][k] for k in ("one", "all", "robots"))
    rows += [
        ("latency", f"p50 {one['p50']:.2f} ms, p99 {one['p99']:.2f} ms for one robot"),
        (
            "",
            f"p50 {many['p50']:.2f} ms, p99 {many['p99']:.2f} ms for {robots} at once",
        ),
        (
            "control",
            f"a call takes {control['call_share_of_period']:.1%} of a period of "
            f"{control['period_ms']:.3g} ms, one call {often}",
        ),
        (
            "time",
            f"{r['seconds']['driving']:.1f} s of driving, {r['policy_share']:.0%} of it the policy; "
            f"{r['seconds']['all']:.1f} s in all",
        ),
        *(("note", note) for note in r["notes"]),
    ]
    return "\n".join(line for name, value in rows for line in _lines(name, value))


def write(r: dict[str, Any], page: str, out: Path) -> None:
    """evaluation.json and evaluation.txt."""
    write_json(out / "evaluation.json", r)
    (out / "evaluation.txt").write_text(page + "\n")


def _of_successes(length: dict[str, Any]) -> str:
    return "" if length["first_success"] is None else f"; done first at step {length['first_success']:.0f}"


def _quantiles(seconds: np.ndarray) -> dict[str, float]:
    p50, p99 = 1e3 * np.quantile(seconds, [0.5, 0.99]) if len(seconds) else (0.0, 0.0)
    return {"p50": float(p50), "p99": float(p99)}


def _lines(name: str, value: str) -> list[str]:
    """`value` in the second column, wrapped at 80."""
    lines, line = [], ""
    for word in value.split(" "):
        if line and len(line) + 1 + len(word) > _WIDTH - 10:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    lines.append(line)
    return [f"{name if not i else '':<10}{line}" for i, line in enumerate(lines)]
