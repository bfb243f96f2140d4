"""lerobot-doctor as a process that can be asked about folders, one after the other.

  pip install -r third_party/requirements-lerobot-doctor.txt
  python third_party/lerobot_doctor_peer.py

says {"ready": version}, or {"missing": why} and ends. Then each line on stdin is the path of a LeRobot
folder, and each line on stdout what the tool says of it: {"statements": [[severity, check, message], ...],
"seconds": s} with "WARN" and "FAIL" as severities, from all of its checks as its command line runs them; or
{"error": what it raised}. This file needs the tool and nothing of this project.

lerobot-doctor 0.2.0, Jash Shah: https://github.com/jashshah999/lerobot-doctor, Apache-2.0.
"""

import contextlib
import json
import sys
import time


def examine(folder: str) -> dict:
    """What the tool warns of in a folder; a folder that it cannot load is one failure, as for its user."""
    from lerobot_doctor.dataset_loader import load_dataset
    from lerobot_doctor.runner import run_checks

    began = time.perf_counter()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for answers
            dataset = load_dataset(folder)
            if dataset.info is None:
                return {"error": str(dataset.info_error)}
            report = run_checks(dataset)
    except Exception as error:  # Whatever a stranger's code raises is an answer about this folder alone.
        return {"error": f"{type(error).__name__}: {error}"}
    statements = [
        [message.severity.value, result.name, message.message]
        for result in report.results
        for message in result.messages
        if message.severity.value != "PASS"
    ]
    return {"statements": statements, "seconds": time.perf_counter() - began}


def main() -> int:
    """Answers until stdin ends."""
    try:
        import lerobot_doctor
    except ImportError as error:
        print(json.dumps({"missing": str(error)}), flush=True)
        return 3
    print(json.dumps({"ready": lerobot_doctor.__version__}), flush=True)
    for line in sys.stdin:
        print(json.dumps(examine(line.strip())), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
