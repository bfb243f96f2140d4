"""The doctor on runs by reward: ten faults at three severities, their healthy look-alikes, and healthy runs.

  python -m experiments.doctor_reward_benchmark --seeds=3

trains and examines 90 broken and 30 healthy runs of PPO on `panda_reach`, ten seconds each on two cores, and
prints how many faults are found and named and how many healthy runs are alarmed. A fault counts as named
where the first place of the diagnosis is an accepted cause. Each case is a JSON line in --out, so a stopped
run goes on with the same command.
"""

import json
from pathlib import Path

from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)
from experiments.progress import Progress


def define_flags() -> None:
    """The flags of this command, defined when it runs."""
    flags.DEFINE_integer("seeds", 3, "of every case", lower_bound=1, upper_bound=1_000)
    flags.DEFINE_integer("first_seed", 100, "other runs of everything", lower_bound=0)
    flags.DEFINE_list("faults", [], "ids; all where none is given")


def main(_: list[str]) -> int:
    """Runs what is missing, prints the table."""
    from ch3_jax.evaluation.rollouts import wilson
    from ch3_jax.faults.of_rewards import FAULTS, RewardRun

    f = flags.FLAGS
    folder = Path(f.out or "runs/doctor-reward-benchmark").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cases.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    done = {line["key"] for line in lines}
    cases = []
    for seed in range(f.first_seed, f.first_seed + (1 if f.smoke else f.seeds)):
        run = RewardRun(seed=seed)
        for fault in FAULTS:
            if f.faults and fault.id not in f.faults:
                continue
            for i, value in list(enumerate(fault.severities))[2 if f.smoke else 0 :]:
                cases.append((f"{fault.id}-{i}-{seed}", fault.answers(), fault.change(run, value)))
            if fault.lookalike:
                cases.append((f"{fault.id}-like-{seed}", (), fault.lookalike(run)))
        if not f.faults:
            cases += [
                (f"healthy-{i}-{seed}", (), run._replace(reward=reward, iterations=length))
                for i, (reward, length) in enumerate((("dense", 100), ("dense", 400), ("shaped", 200)))
            ]
    if f.smoke:
        cases = cases[:2]
    todo = [case for case in cases if case[0] not in done]
    with Progress(len(cases), start=len(cases) - len(todo)) as progress, path.open("a") as file:
        for i, (key, answers, run) in enumerate(todo):
            line = {"key": key, "answers": answers, **_examined(run)}
            file.write(json.dumps(line) + "\n")
            file.flush()
            lines.append(line)
            progress.update(len(cases) - len(todo) + i + 1)
    keys = {case[0] for case in cases}
    lines = [line for line in lines if line["key"] in keys]
    print(f"{'fault':<44} named  alarmed")
    for fault in FAULTS:
        mine = [x for x in lines if x["key"].startswith(fault.id) and x["answers"]]
        if mine:
            named = sum(x["cause"] in x["answers"] for x in mine)
            alarmed = sum(bool(x["alarms"]) for x in mine)
            print(f"{fault.id} {fault.title:<40} {named:2}/{len(mine):<3} {alarmed:2}/{len(mine)}")
    for words, chosen, good in (
        ("faults named", [x for x in lines if x["answers"]], lambda x: x["cause"] in x["answers"]),
        ("healthy runs alarmed", [x for x in lines if not x["answers"]], lambda x: bool(x["alarms"])),
    ):
        if chosen:
            share = wilson(sum(map(good, chosen)), len(chosen))
            interval = f"[{share.low:.1%}, {share.high:.1%}]"
            print(f"{words}: {share.rate:.1%} {interval} of {len(chosen)}")
    return 0


def _examined(run) -> dict:
    from ch3_jax.doctor.examine import examine
    from ch3_jax.doctor.from_reward import patient_of_rows
    from ch3_jax.doctor.verdict import diagnose
    from ch3_jax.faults.of_rewards import train

    curves = train(run)
    seen = patient_of_rows(
        "a run by reward",
        curves.rows,
        loss="ppo",
        normalized=run.settings.normalize_reward,
        actions=curves.actions,
    )
    report = examine(seen, (7,))
    diagnosis = diagnose(report, success=float(seen.success[-1]))
    ranked = diagnosis.causes
    return {
        "status": diagnosis.status,
        "cause": ranked[0].cause if ranked else None,
        "alarms": sorted({finding.cause for finding in report.alarms}),
        "success": [float(seen.success[:5].mean()), float(seen.success[-5:].mean())],
    }


if __name__ == "__main__":
    define_flags()
    entry.run(main)
