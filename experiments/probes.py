"""The five probes: which part of a learner is wrong, in half a minute.

  python -m experiments.probes                  ppo on all five
  python -m experiments.probes --plant=all      the same with each bug planted in turn

prints what was learned beside what a right learner learns. The probes are meant in this order: the first
that fails says which part is wrong. `--plant` takes the name of a bug: each has the name of the probe that
was made to find it. Exit code 0 where all is as it should be: without a bug all pass, with one its own probe
is the first to fail.
"""

from absl import flags

from experiments import (
    entry,
    shared_flags,  # noqa: F401 - defines --out and --smoke
)

_NAMES = ("value", "observation", "discount", "advantage", "policy")


def define_flags() -> None:
    """The flags of this command, defined when it runs."""
    flags.DEFINE_enum("loss", "ppo", ("ppo", "a2c"), "the algorithm")
    flags.DEFINE_enum("plant", None, (*_NAMES, "all"), "a bug")
    flags.DEFINE_integer("seed", 0, "of everything random", lower_bound=0)


def main(_: list[str]) -> int:
    """Runs the probes, prints a table for each bug."""
    from ch3_jax.reinforcement import probing

    f = flags.FLAGS
    bugs = [None] if f.plant is None else list(probing.BUGS) if f.plant == "all" else [f.plant]
    right = True
    for bug in bugs:
        print(f"{f.loss}" + (f", with a bug: {probing.BUGS[bug][0]}" if bug else ""), flush=True)
        first = None
        for name in _NAMES[: 2 if f.smoke else None]:
            found = probing.probe(name, algorithm=f.loss, bug=bug, seed=f.seed)
            print(_line(found), flush=True)
            first = first or (None if found.passed else name)
        if first:
            print(f"  the first to fail is {first!r}; look at\n    {_WHERE[first]}\n")
        right &= first == bug or bool(f.smoke)
    return 0 if right else 1


_WHERE = {
    "value": "the value's loss and its learning rate",
    "observation": "the value's gradient and what it is shown",
    "discount": "the discount and the value of the next state",
    "advantage": "the advantages and the sign of the policy's loss",
    "policy": "what the policy is shown, and which rows are paired",
}


def _line(found) -> str:
    def row(values) -> str:
        return " ".join(f"{x:5.2f}" for x in values)

    actions = "".join("-0+"[int(x) + 1] for x in found.action)
    wanted = "".join("-.+"[int(x) + 1] for x in found.expected.action)
    return (
        f"  {found.name:<12}{'passed' if found.passed else 'FAILED':<7}value {row(found.value):<12} "
        f"wanted {row(found.expected.value):<12} action {actions:<2} wanted {wanted}"
    )


if __name__ == "__main__":
    define_flags()
    entry.run(main)
