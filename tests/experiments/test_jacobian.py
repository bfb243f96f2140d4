"""`experiments.jacobian`: what it prints is what the library computes, and the three pictures are there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*args, code=0):
    command = [sys.executable, "-m", "experiments.jacobian", *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_two_links_by_hand():
    """At (0, 90 degrees) the tip of two links of one metre is at (1, 1); J = [[-1, -1], [1, 0], ...]."""
    out = run("--arm=planar2", "--q=0,1.5707963267948966", "--json").stdout
    facts = json.loads(out[out.index("{") :])
    text = json.dumps(facts)
    assert "singular" in text
    jacobian = np.array(next(v for k, v in facts.items() if k.lower() in ("j", "jacobian")))
    np.testing.assert_allclose(jacobian[:2], [[-1, -1], [1, 0]], atol=1e-6)


@pytest.mark.slow
def test_three_pictures(tmp_path):
    run("--arm=planar2", f"--out={tmp_path / 'j'}", "--smoke")
    assert sorted(path.name for path in (tmp_path / "j").glob("*.png")) == [
        "chain_rule.png",
        "panda.png",
        "two_link.png",
    ]


def test_a_file_and_its_tip(tmp_path):
    """One link of two metres about z: at 90 degrees its tip is at (0, 2), J = (-2, 0, 0, 0, 0, 1)."""
    path = tmp_path / "robot.urdf"
    path.write_text(
        """<robot name="one"><link name="base"/><link name="arm"/><link name="tool0"/>
        <joint name="turn" type="continuous"><parent link="base"/><child link="arm"/>
        <axis xyz="0 0 1"/></joint>
        <joint name="fix" type="fixed"><parent link="arm"/><child link="tool0"/><origin xyz="2 0 0"/></joint>
        </robot>"""
    )
    out = run(f"--arm={path}", "--tip=tool0", "--q=1.5707963267948966", "--json").stdout
    facts = json.loads(out[out.index("{") :])
    np.testing.assert_allclose(facts["position_m"], [0, 2, 0], atol=1e-12)
    np.testing.assert_allclose(np.ravel(facts["jacobian"]), [-2, 0, 0, 0, 0, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--arm=pandaa",), "panda"),
        (("--arm=panda", "--q=1,2"), "7"),
        (("--arm=absent.urdf",), "--tip is missing"),
    ],
)
def test_bad_input_is_one_screen(args, words):
    done = run(*args, code=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
