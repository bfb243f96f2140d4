"""The README's promises that a machine can check."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_both_commands_are_there_once_and_ci_runs_the_second():
    commands = re.findall(r"^python3\.11 -m venv .*$", README, re.M)
    assert len(commands) == 2
    assert commands[0].endswith("-m experiments.train --loss=ce")
    assert commands[1].endswith("-m pytest")
    assert "<!-- tests -->" in (ROOT / ".ci/run").read_text()


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_flag_named_here_exists():
    defined = set(
        re.findall(
            r'DEFINE_\w+\(\s*"(\w+)"', "".join(p.read_text() for p in (ROOT / "experiments").rglob("*.py"))
        )
    )
    named = set(re.findall(r"--([a-z_]+)", README)) - {"no", "help", "helpfull"}
    assert named <= defined


def test_the_six_lines_shown_are_the_code():
    code = re.sub(r"\s+", " ", (ROOT / "ch3_jax/training/update.py").read_text())
    block = README.split("## The six lines")[1].split("```python")[1].split("```")[0]
    for line in block.strip().splitlines():
        line = line.split("#")[0].strip()
        assert line == "..." or line in code, line
