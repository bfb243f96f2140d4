"""What a guess is worth.

score = 100 * found / hidden - 20 * wrong guesses - 15 * hints - minutes beyond ten,   at least 0
"""

from typing import Any

from experiments.puzzle_parts import choice
from experiments.puzzle_parts.choice import Puzzle

_WRONG, _HINT, _FREE_MINUTES = 20, 15, 10


def judge(log: dict[str, Any], causes: list[str], places: dict[str, int], now: float) -> str:
    """Notes a guess in the log, and says what it was worth.

    Args:
      log: of `files.read_log`; changed.
      causes: ids of the guess.
      places: id -> place, of every cause there is.
      now: seconds since 1970.

    Returns:
      A sentence that gives away no more than whether it was right, and whether the place was.
    """
    puzzle = Puzzle(**log["puzzle"])
    hidden = choice.hidden(puzzle)
    found = {
        f.id
        for f in hidden
        for c in causes
        if choice.salted(log["salt"], c) in log["answers"] and c in f.answers()
    }
    near = {f.place for f in hidden} & {places[c] for c in causes}
    log["guesses"].append({"causes": causes, "found": len(found), "seconds": now - log["begun"]})
    points = score(log, len(hidden))
    if len(found) == len(hidden):
        took = (now - log["begun"]) / 60
        return f"right, after {took:.1f} minutes and {len(log['guesses'])} guesses: {points:.0f} points"
    if found:
        return f"{len(found)} of {len(hidden)} causes is right; go on"
    if near:
        return "wrong, but that is where it sits: the place is right"
    return "wrong, and not in that place"


def score(log: dict[str, Any], hidden: int) -> float:
    """Points for the guesses so far."""
    if not log["guesses"]:
        return 0.0
    best = max(guess["found"] for guess in log["guesses"])
    wrong = sum(guess["found"] == 0 for guess in log["guesses"])
    minutes = log["guesses"][-1]["seconds"] / 60
    late = max(minutes - _FREE_MINUTES, 0)
    return max(100 * best / hidden - _WRONG * wrong - _HINT * log["hints"] - late, 0.0)
