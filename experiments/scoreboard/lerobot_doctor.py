"""What lerobot-doctor says of a recording, translated into causes, read in the three ways that one could.

| column | an alarm is |
| --- | --- |
| any warning | a warning or failure, as its `--ci --fail-on=warn` |
| failures | a failure, as its exit code |
| beside the twin | what it does not say of the healthy twin of this recording, which nobody has |

What says something of the folder or of a policy that nobody trains here, and nothing of the recording, is
left out: no images, size and place of files, episodes below the 100 steps of ACT's window. A statement is
right when the planted cause is among those that its rule could mean.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

WARNING, FAILURE, TWIN = "any warning", "failures", "beside the twin"
READINGS = (WARNING, FAILURE, TWIN)
OF_THE_FOLDER = ("Metadata & Format Compliance", "Video Integrity", "Portability")

_PEER = Path(__file__).resolve().parents[2] / "third_party" / "lerobot_doctor_peer.py"
# About other policies than those trained here, and lines that only count the others.
_ASIDE = r"no image/video features|chunk_size=\d+ \(used by|-step prediction|^\.\.\.and|episode\(s\) flagged$"
_IDLE = ("idle_prefix", "frozen_observations", "zero_first_actions", "constant_dimension")
_WILD = ("action_outliers", "outlier_stretched_bins", "unit_mix", "angle_wrap")
_RULES = (
    ("not finite", r"\b(NaN|Inf)\b", ("non_finite_data",)),
    (
        "time",
        r"dropped frame|Mean interval|non-monotonic",
        ("dropped_frames", "wrong_rate", "timestamps_disordered"),
    ),
    ("at a limit", r"of values at (minimum|maximum)", ("clipped_actions",)),
    ("frozen", r"frozen", _IDLE),
    ("stuck", r"stuck/static", _IDLE),
    ("constant", r"zero variance|constant|zero std", ("constant_dimension", "frozen_observations")),
    ("jump", r"action jump", _WILD),
    ("outlier", r"extreme outlier", _WILD),
    ("duplicates", r"near-duplicate", ("repeated_episodes", "duplicates_across_splits")),
    ("shift", r"distribution shift", ("stale_statistics", "unit_mix", "two_operators")),
    ("lengths", r"shorter than|too short|abnormally|length variance|single frame|<=1 frame", ()),
)


class Said(NamedTuple):
    """One statement.

    Attributes:
      severity: "WARN" or "FAIL".
      rule: short name.
      where: column and dimension, "" where it says none.
      causes: of the project's catalogue, that it could mean.
    """

    severity: str
    rule: str
    where: str
    causes: tuple[str, ...]


def understood(statements: list[list[str]]) -> list[Said]:
    """Statements of the peer about the recording, each once for every column.

    Args:
      statements: (severity, check, message).

    >>> understood([["WARN", "Action Quality", "action[6]: 54.4% of values at maximum (1.0000)"]])
    [Said(severity='WARN', rule='at a limit', where='action[6]', causes=('clipped_actions',))]
    """
    found = []
    for severity, check, message in statements:
        if check in OF_THE_FOLDER or re.search(_ASIDE, message):
            continue
        # One message may repeat several: "Episode 3: 8% of action frozen; NaN in action".
        rules = [(rule, causes) for rule, pattern, causes in _RULES if re.search(pattern, message)]
        where = re.match(r"(?:action|observation)[\w.]*(?:\[\d+\])?(?=:)", message)
        where = where.group() if where else ""
        found += [Said(severity, rule, where, causes) for rule, causes in rules or [(check, ())]]
    return list(dict.fromkeys(found))


def readings(said: list[Said], twin: list[Said]) -> dict[str, list[list]]:
    """Column -> alarms as (rule, causes), in the form of the other baselines."""
    usual = {(one.rule, one.where) for one in twin}
    kept = {
        WARNING: said,
        FAILURE: [one for one in said if one.severity == "FAIL"],
        TWIN: [one for one in said if (one.rule, one.where) not in usual],
    }
    return {name: [[one.rule, list(one.causes)] for one in ones] for name, ones in kept.items()}


class Peer:
    """The tool as a process; `missing` says why there is none, and then nothing can be asked.

    Args:
      python: interpreter that has the tool.
    """

    def __init__(self, python: str):
        self._process, self.version, self.missing = None, "", ""
        try:
            self._process = subprocess.Popen(
                [python, str(_PEER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            said = json.loads(self._process.stdout.readline() or '{"missing": "the process ended"}')
        except (OSError, ValueError) as error:
            said = {"missing": str(error)}
        self.version, self.missing = said.get("ready", ""), said.get("missing", "")

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def ask(self, folder: Path) -> tuple[list[Said], float]:
        """(what it says, its seconds); what it raises is a failure of the rule "error"."""
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            return [Said("FAIL", "error", "", ())], 0.0
        return understood(answer["statements"]), answer["seconds"]
