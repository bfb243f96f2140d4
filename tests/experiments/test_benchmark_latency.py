"""The latency table counts what a call costs, and fits a terminal."""

from experiments import recipes
from experiments.benchmarks import latency

CALLS = {
    "rt1": 1,
    "openvla": 7,
    "act": 1,
    "diffusion_policy": 100,
    "pi0": 10,
    "octo": 20,
    "diffusion, DDIM 10": 10,
}


def test_network_calls_are_those_of_the_papers():
    found = {}
    for name, (recipe, flags, _) in latency._CONTENDERS.items():
        made = recipes.recipe(recipe, "tiny")
        made = made._replace(flags=made.flags | flags)
        found[name] = latency._network_calls(recipes.objective(made), made.flags)
    assert found == CALLS


def row(name, p50):
    numbers = {"parameters": 19_667_200, "calls": 100, "chunk": 100, "p99_ms": 1234.5, "many_p50_ms": 12345.6}
    return {"recipe": name, "p50_ms": p50, **numbers}


def test_only_what_the_bar_is_for_is_judged():
    rows = [row("diffusion_policy", 440.0), row("pi0", 19.0), row("openvla", 21.0), row("octo", 30.0)]
    targets = latency._targets(rows)
    assert [(t["text"].partition(":")[0], t["reached"]) for t in targets] == [
        ("pi0", True),
        ("openvla", False),
    ]
    text = latency.table({"scale": "small", "rows": rows, "targets": targets})
    assert "missed: openvla" in text and "missed: pi0" not in text
    assert max(map(len, text.splitlines())) <= 80
