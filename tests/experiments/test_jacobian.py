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


def test_two_links_by_hand_and_three_pictures(tmp_path):
    """At (0, 90 degrees) the tip of two links of one metre is at (1, 1); J = [[-1, -1], [1, 0], ...]."""
    out = run("--arm=planar2", "--q=0,1.5707963267948966", "--json", f"--out={tmp_path / 'j'}").stdout
    facts = json.loads(out[out.index("{") :])
    text = json.dumps(facts)
    assert "singular" in text
    jacobian = np.array(next(v for k, v in facts.items() if k.lower() in ("j", "jacobian")))
    np.testing.assert_allclose(jacobian[:2], [[-1, -1], [1, 0]], atol=1e-6)
    assert len(list((tmp_path / "j").glob("*.png"))) == 3


@pytest.mark.parametrize(("args", "words"), [(("--arm=pandaa",), "panda"), (("--arm=panda", "--q=1,2"), "7")])
def test_bad_input_is_one_screen(args, words):
    done = run(*args, code=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
