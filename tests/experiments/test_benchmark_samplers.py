"""The samplers' benchmark compares like with like, and says so when it does not."""

import sys

import numpy as np
import pytest

from ch3_jax.errors import InputError
from experiments.benchmarks import own_samplers, samplers
from experiments.benchmarks.settings import Settings
from third_party import diffusers_samplers

SETTINGS = Settings(python=sys.executable, threads=(1,), rounds=2, seconds=0.05, long=False, smoke=True)


@pytest.fixture(scope="module")
def inputs():
    return samplers.inputs()


def mlp(arrays, observation, x, share):
    """The network in numpy."""
    h = np.concatenate([observation, x, np.full((len(x), 1), share, np.float32)], axis=1)
    for layer in ("hidden_1", "hidden_2"):
        h = np.maximum(h @ arrays[f"{layer}/kernel"] + arrays[f"{layer}/bias"], 0)
    return h @ arrays["heads/kernel"] + arrays["heads/bias"]


def test_both_sides_name_the_same_workloads():
    for name in ("SAMPLERS", "BATCHES", "STEPS", "TRAINED"):
        assert getattr(own_samplers, name) == getattr(diffusers_samplers, name)


def test_inputs_are_those_of_the_table(inputs):
    assert inputs["hidden_1/kernel"].shape == (22, 256) and inputs["heads/bias"].shape == (7,)
    assert inputs["draws/64"].shape == (20, 64, 7)
    assert all(array.dtype == np.float32 for array in inputs.values())
    np.testing.assert_array_equal(samplers.inputs()["start/64"], inputs["start/64"])
    # torch.nn.Linear's own start: uniform within 1 / sqrt(22).
    assert 0.99 * 22**-0.5 < np.abs(inputs["hidden_1/kernel"]).max() <= 22**-0.5


@pytest.mark.parametrize("name", ["euler", "network"])
def test_our_side_against_numpy(inputs, name, tmp_path):
    np.savez(tmp_path / "inputs.npz", **inputs)
    params, seen, start = own_samplers.load(tmp_path / "inputs.npz")
    found = own_samplers.runner(name, params, seen[64])(start[64])
    x = inputs["start/64"]
    if name == "network":
        for share in np.linspace(0, 1, 20):
            x = mlp(inputs, inputs["observation/64"], x, share)
    else:
        # x' = x - v / 20, from the share of noise 1 down to 1/20.
        for share in np.arange(20, 0, -1) / 20:
            x = x - mlp(inputs, inputs["observation/64"], x, share) / 20
    np.testing.assert_allclose(found, x, atol=2e-5)


def test_their_network_is_ours(inputs):
    torch = pytest.importorskip("torch")
    network = diffusers_samplers.make_network(inputs)
    x = np.concatenate([inputs["observation/64"], inputs["start/64"], np.full((64, 1), 0.3, np.float32)], 1)
    expected = mlp(inputs, inputs["observation/64"], inputs["start/64"], 0.3)
    np.testing.assert_allclose(network(torch.tensor(x)).detach(), expected, atol=1e-5)


def test_their_samplers_make_our_actions(inputs, tmp_path):
    """What the benchmark checks before it times anything, at the smaller batch."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    np.savez(tmp_path / "inputs.npz", **inputs)
    params, seen, start = own_samplers.load(tmp_path / "inputs.npz")
    network, x = diffusers_samplers.make_network(inputs), torch.tensor(inputs["start/1"])
    with torch.no_grad():
        for name in own_samplers.SAMPLERS:
            walk = diffusers_samplers.make_walk(name, network, torch.tensor(inputs["observation/1"]))
            draws = inputs["draws/1"]
            theirs = diffusers_samplers.with_draws(walk, draws, x) if name == "ddpm" else walk(x)
            ours = own_samplers.runner(name, params, seen[1])(start[1])
            np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5, err_msg=name)


def answers(folder, change=0.0):
    folder.mkdir()
    for name in own_samplers.SAMPLERS:
        for b in own_samplers.BATCHES:
            np.save(
                folder / f"{name}-{b}.npy",
                np.full((b, 7), 1.5 + (change if name == "heun" else 0), np.float32),
            )
    return folder


def test_other_actions_are_refused(tmp_path):
    ours = answers(tmp_path / "ours")
    same = samplers.compare(ours, answers(tmp_path / "same", 1e-5))
    assert same["ddim", 64] == 0 and 0 < same["heun", 1] < 2e-5
    for change in (1e-3, np.nan):
        with pytest.raises(InputError, match="heun at batch 1 does not return diffusers' actions"):
            samplers.compare(ours, answers(tmp_path / f"other{change}", change))


def row(name, batch, faster):
    us = None if faster is None else 1_000.0 * faster
    return {"sampler": name, "batch": batch, "calls": 20, "ours_us": 1_000.0, "peer_us": us} | {
        "faster": faster,
        "difference": None if name == "network" or faster is None else 1e-6,
    }


def test_targets_and_table():
    names = (*own_samplers.SAMPLERS, "network")
    rows = [
        row(name, b, 40.0 if b == 1 else 2.5 if name == "euler" else 3.5) for b in (1, 64) for name in names
    ]
    found = samplers.targets(rows)
    assert [target["reached"] for target in found] == [True, False]
    assert "4 of 5 samplers, least 2.50 x (euler)" in found[1]["text"]
    record = {"threads": 1, "versions": {"ours": "jax 1", "diffusers": "diffusers 1, torch 1"}, "rows": rows}
    text = samplers.table(record | {"targets": found})
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "MISSED" in text and "40.0 x" in text
    # The network alone is no sampler: a fast one does not count, a slow one does not spoil the target.
    assert samplers.targets([r | {"faster": 1.0} if r["sampler"] == "network" else r for r in rows]) == found
    alone = samplers.table(record | {"rows": [row("ddim", 1, None)], "targets": []})
    assert " x" not in alone.splitlines()[-1]


def test_packages_of_an_interpreter(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH= exec {sys.executable} -S "$@"\n')  # -S: no installed packages
    python.chmod(0o755)
    assert samplers.missing_packages(str(python)) == ["torch", "diffusers"]
    (tmp_path / "torch.py").write_text("")
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} -S "$@"\n')
    assert samplers.missing_packages(str(python)) == ["diffusers"]
    with pytest.raises(InputError, match="--torch_python=/no/such cannot be started"):
        samplers.records(SETTINGS._replace(python="/no/such"))


def test_heun_walks_their_levels():
    sampler, process = own_samplers.make("heun")
    assert sampler.calls == samplers.CALLS["heun"] == 39
    grid = process.grid(20)
    assert grid.noise[0] == 1 and grid.noise[-2] == pytest.approx(1e-3) and grid.noise[-1] == 0


@pytest.mark.slow
def test_records_without_and_with_the_peer():
    missing = samplers.missing_packages(sys.executable)
    found = [record for record, _ in samplers.records(SETTINGS)]
    assert ("note" in found[0]) == bool(missing)
    rows = found[-1]["rows"]
    assert len(rows) == 12 and all(r["ours_us"] > 0 for r in rows)
    assert all((r["faster"] is None) == bool(missing) for r in rows)
