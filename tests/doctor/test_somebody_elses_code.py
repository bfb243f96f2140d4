"""Runs that this project has not made: the README's Equinox model, and the log of a PyTorch loop."""

import csv
import re
from pathlib import Path

import pytest

from ch3_jax.doctor.examine import examine
from ch3_jax.doctor.from_curve import patient_of_curve
from ch3_jax.doctor.verdict import diagnose

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.slow
def test_the_equinox_model_of_the_readme(capsys):
    pytest.importorskip("equinox", reason="pip install -r third_party/requirements.txt")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (block,) = [b for b in blocks if "import equinox" in b]
    exec(compile(block, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "Learning rate too high" in said and "examined" in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.slow
def test_the_log_of_a_pytorch_loop(tmp_path):
    """Inputs thirty times too wide under SGD with momentum: the loss explodes in three steps."""
    torch = pytest.importorskip("torch", reason="pip install -r third_party/requirements.txt")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(14, 64), torch.nn.ReLU(), torch.nn.Linear(64, 7))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    inputs = 30 * torch.randn(4096, 14)
    targets = torch.tanh(inputs[:, :7] / 30) + 0.1 * torch.randn(4096, 7)
    with (tmp_path / "log.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "train/loss", "lr"])
        for step in range(50):
            batch = torch.randint(4096, (64,))
            loss = ((model(inputs[batch]) - targets[batch]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rows.writerow([step, loss.item(), 0.1])
    found = diagnose(examine(patient_of_curve(tmp_path / "log.csv")))
    assert [b.cause for b in found.causes] == ["divergence", "non_finite_loss"]
