"""`read_card --score`: both halves of a file of labelled passages, beside the targets."""

import json
from pathlib import Path
from typing import Any

from ch3_jax.cards import score
from ch3_jax.errors import InputError

_ROWS = (
    ("family, positives", "positive", "family"),
    ("family, hard negatives", "hard_negative", "family"),
    ("family, partial", "partial", "family"),
    ("form, positives", "positive", "form"),
    ("form, hard negatives", "hard_negative", "form"),
    ("form, partial", "partial", "form"),
    ("form as a set, positives", "positive", "form, exact"),
    ("form as a set, hard neg.", "hard_negative", "form, exact"),
    *((f"{name}, precision", "all", name) for name in score.NUMBERS),
)


def page(path: str, *, as_json: bool = False) -> str:
    """The table of both halves, the misses below it."""
    rows = load(path)
    halves = {
        name: [row for row in rows if score.half(row["system"]) == name] for name in ("tuning", "held_out")
    }
    scores = {name: score.score(part) for name, part in halves.items()}
    if as_json:
        return json.dumps(
            {name: _plain(found) for name, found in scores.items()}, indent=2, ensure_ascii=False
        )
    lines = [f"{'':<27}{'target':>7}" + "".join(f"{name.replace('_', ' '):>18}" for name in scores), "-" * 70]
    lines.append(f"{'passages':<27}{'':>7}" + "".join(f"{found.passages:>18}" for found in scores.values()))
    for label, kind, what in _ROWS:
        target = score.TARGETS.get((kind, what))
        cells = "".join(f"{_share(found.shares.get((kind, what)), target):>18}" for found in scores.values())
        lines.append(f"{label:<27}{f'{target:.0%}' if target else '':>7}{cells}")
    for name in score.NUMBERS:
        cells = "".join(f"{_share(found.recall[name], None):>18}" for found in scores.values())
        lines.append(f"{name + ', recall':<27}{'':>7}{cells}")
    lines += ["", "below target: *"]
    return "\n".join(lines)


def load(path: str) -> list[dict[str, Any]]:
    """The passages of a JSON lines file.

    Raises:
      InputError: no such file, or a line that is no labelled passage.
    """
    needed = {"system", "text", "kind", "family", "form"}
    try:
        lines = Path(path).read_text().splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        missing = next((needed - set(row) for row in rows if not needed <= set(row)), set())
        if not rows or missing:
            raise ValueError(f"missing {', '.join(sorted(missing))}" if missing else "no passages")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} holds no labelled passages",
            got=error,
            expected="JSON lines with system, text, kind, family, form and the numbers",
            cause="another file, or a damaged line",
            fix="check the path",
        ) from error
    return rows


def _share(share: score.Share | None, target: float | None) -> str:
    if share is None or not share.asked:
        return "-"
    mark = "*" if target is not None and share.value < target else ""
    return f"{share.right}/{share.asked} {share.value:.1%}{mark}"


def _plain(found: score.Scores) -> dict[str, Any]:
    return {
        "passages": found.passages,
        "shares": {f"{kind}: {what}": share._asdict() for (kind, what), share in found.shares.items()},
        "recall": {name: share._asdict() for name, share in found.recall.items()},
    }
