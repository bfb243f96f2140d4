"""PPO on `panda_reach`: environment steps per second with updates, beside Stable-Baselines3, and over N.

Every contender makes the same iteration (32 steps of N environments, 8 updates, networks of 64 and 32) and is
first shown one path of actions: it must be rewarded alike,

  max |r_ours - r_theirs| <= 1e-5,

so that both learn in one world. Rates are those of the wall clock.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.errors import InputError
from experiments.benchmarks import rounds
from experiments.benchmarks.settings import Settings
from third_party import sb3_ppo

PEER = Path(sb3_ppo.__file__)
COMMAND = "pip install stable-baselines3"
ENVS = (16, 64, 256, 1024, 4096)
COMPARED = 1024
WANTED_RATE, WANTED_RATIO = 1e6, 50.0
_OURS = "ours"


def records(settings: Settings) -> Iterator[tuple[dict[str, Any], str]]:
    """Checks the peer's interpreter, then gives records and their texts as they come."""
    check = "from importlib.util import find_spec as f; print(f('stable_baselines3') is not None)"
    try:
        done = subprocess.run([settings.python, "-c", check], capture_output=True, text=True)
    except OSError as error:
        raise InputError(
            f"--torch_python={settings.python} cannot be started",
            got=error.strerror,
            expected="the path of a Python interpreter that has stable-baselines3",
            cause="a mistyped path",
            fix="correct it, or leave it out and " + COMMAND,
        ) from error
    return _records(settings, alone="True" not in done.stdout)


def _records(settings: Settings, alone: bool) -> Iterator[tuple[dict[str, Any], str]]:
    if alone:
        note = f"without stable-baselines3 ours is measured alone; for the comparison: {COMMAND}\n"
        yield {"note": note.strip()}, note
    available = sorted(os.sched_getaffinity(0), reverse=True) if hasattr(os, "sched_getaffinity") else [0]
    for number in settings.threads:
        if number > len(available):
            record = {"skipped": f"{number} threads: this process may use {len(available)} processors"}
            yield record, f"left out: {record['skipped']}\n"
            continue
        cores = ",".join(map(str, available[:number]))
        record = measure(settings, number, cores, alone=alone)
        yield record, table(record)


def measure(settings: Settings, threads: int, cores: str, *, alone: bool = False) -> dict[str, Any]:
    """One record: the contenders at `COMPARED` environments in turns, then ours over `ENVS`.

    Args:
      settings: of the benchmark.
      threads: of each side.
      cores: comma-separated processors that all stay on.
      alone: there is no peer.

    Raises:
      InputError: the peer did not start, or lives in another world.
    """
    envs = 64 if settings.smoke else COMPARED
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        place = Path(folder)
        expected = _path(place / "inputs.npz")
        commands = {_OURS: _ours(envs, cores)}
        for name in () if alone else sb3_ppo.CONTENDERS:
            files = [str(place / "inputs.npz"), str(place / f"{name}.npz")]
            words = [f"--envs={envs}", f"--threads={threads}", f"--cores={cores}"]
            commands[name] = [settings.python, str(PEER), name, *files, *words]
        workers = {n: stack.enter_context(rounds.Worker(c, threads)) for n, c in commands.items()}
        try:
            versions = {name: worker.ready() for name, worker in workers.items()}
        except ChildProcessError as error:
            raise InputError(
                "a side of the comparison did not start",
                got=error,
                expected="stable-baselines3, gymnasium and torch that fit together",
                cause="versions that do not",
                fix=COMMAND,
            ) from error
        for name in commands:
            if name != _OURS:
                _same_world(expected, place / f"{name}.npz")
        # A turn of the slowest peer is an iteration of seconds; ours makes as many as fit.
        answers = rounds.interleaved(workers, settings.rounds, max(settings.seconds, 1.0))
    rows = [
        {
            "contender": name,
            "envs": envs,
            "rate": envs * sb3_ppo.ROLLOUT * 1e6 / rounds.median_us(answers[name], "wall"),
            "ours_is": rounds.median_ratio(answers[name], answers[_OURS], "wall"),
        }
        for name in commands
    ]
    scaling = [_alone(count, settings, threads, cores) for count in ((16, 64) if settings.smoke else ENVS)]
    return {
        "threads": threads,
        "versions": versions,
        "rows": rows,
        "scaling": scaling,
        "targets": [] if settings.smoke else _targets(rows, threads),
    }


def _targets(rows: list[dict[str, Any]], threads: int) -> list[dict[str, Any]]:
    found = []
    if threads == 2:
        rate = rows[0]["rate"]
        found.append(
            {
                "text": f"{WANTED_RATE:,.0f} steps/s at {COMPARED} environments: {rate:,.0f}",
                "measured": rate,
                "wanted": WANTED_RATE,
                "reached": rate >= WANTED_RATE,
            }
        )
    for row in rows[1:]:
        found.append(
            {
                "text": f"{WANTED_RATIO:g} x Stable-Baselines3, {row['contender']}: {row['ours_is']:.1f} x",
                "measured": row["ours_is"],
                "wanted": WANTED_RATIO,
                "reached": row["ours_is"] >= WANTED_RATIO,
            }
        )
    return found


def table(record: Mapping[str, Any]) -> str:
    """One record as text of 80 columns."""
    threads = record["threads"]
    versions = dict.fromkeys(record["versions"].values())
    lines = [
        f"PPO on panda_reach, steps of the environment per second with updates, "
        f"{threads} thread{'s' if threads > 1 else ''}",
        "; ".join(versions),
        "",
        f"{'contender':<36}{'environments':>14}{'steps/s':>14}{'ours is':>12}",
    ]
    for row in record["rows"]:
        name = "ours" if row["contender"] == _OURS else f"Stable-Baselines3, {row['contender']}"
        ratio = "" if row["contender"] == _OURS else f"{row['ours_is']:>10.1f} x"
        lines.append(f"{name:<36}{row['envs']:>14,}{row['rate']:>14,.0f}{ratio}")
    lines += ["", f"{'ours, over environments':<36}{'environments':>14}{'steps/s':>14}{'each, /s':>12}"]
    for row in record["scaling"]:
        lines.append(f"{'':<36}{row['envs']:>14,}{row['rate']:>14,.0f}{row['rate'] / row['envs']:>12,.0f}")
    lines += [""] if record["targets"] else []
    lines += [f"{'reached' if t['reached'] else 'MISSED':<8}{t['text']}" for t in record["targets"]]
    return "\n".join(lines) + "\n"


def draw(records: list[Mapping[str, Any]], path: Path) -> None:
    """Steps per second over environments, on two logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ax = pyplot.subplots(figsize=(8, 5), dpi=110)
    for record in (r for r in records if r.get("scaling")):
        envs, rate = zip(*((row["envs"], row["rate"]) for row in record["scaling"]), strict=True)
        label = f"ours, {record['threads']} thread{'s' if record['threads'] > 1 else ''}"
        (line,) = ax.plot(envs, rate, "o-", label=label)
        linear = [rate[0] * e / envs[0] for e in envs]
        ax.plot(envs, linear, ":", color=line.get_color(), label=f"linear from {envs[0]}")
        for row, mark in zip(record["rows"][1:], "sx", strict=False):
            name = f"Stable-Baselines3, {row['contender']}"
            ax.plot(row["envs"], row["rate"], mark, color=line.get_color(), label=name)
    ax.set(xscale="log", yscale="log", xlabel="environments", ylabel="environment steps/s with updates")
    ax.set_title("PPO on panda_reach", loc="left")
    ax.grid(alpha=0.3, which="both")
    ax.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _ours(envs: int, cores: str) -> list[str]:
    return [sys.executable, "-m", "experiments.benchmarks.ppo_ours", f"--envs={envs}", f"--cores={cores}"]


def _alone(envs: int, settings: Settings, threads: int, cores: str) -> dict[str, Any]:
    with rounds.Worker(_ours(envs, cores), threads) as worker:
        worker.ready()
        answers = rounds.interleaved({_OURS: worker}, settings.rounds, settings.seconds)[_OURS]
    return {"envs": envs, "rate": envs * sb3_ppo.ROLLOUT * 1e6 / rounds.median_us(answers, "wall")}


def _path(inputs: Path, seed: int = 0) -> np.ndarray:
    """Writes limits and a path of actions; returns the rewards of ours along it."""
    import jax

    from ch3_jax.environments import panda_reach as task
    from ch3_jax.environments.reach import reach

    environment, arm = reach("dense"), task.panda()
    state = environment.reset(jax.random.key(seed))
    actions = np.random.default_rng(seed).uniform(-1, 1, (sb3_ppo.STEPS, 7)).astype(np.float32)
    np.savez(
        inputs,
        lower=arm.lower,
        upper=arm.upper,
        velocity=arm.velocity,
        rest=task.REST_RAD,
        actions=actions,
        q=state.robot.q,
        target=state.robot.target,
    )
    step, rewards = jax.jit(environment.step), []
    for action in actions:
        state, outcome = step(state, action * np.asarray(environment.high), jax.random.key(0))
        rewards.append(float(outcome.reward))
    return np.asarray(rewards)


def _same_world(expected: np.ndarray, answers: Path) -> None:
    with np.load(answers) as file:
        apart = float(np.abs(file["reward"] - expected).max())
    if not apart <= 1e-5:
        raise InputError(
            "the peer's panda_reach is another world",
            got=f"rewards {apart:.2g} apart along the same actions",
            expected="at most 1e-5",
            cause="an arm or a limit that was changed on one side",
            fix="change third_party/sb3_ppo.py alike",
        )
