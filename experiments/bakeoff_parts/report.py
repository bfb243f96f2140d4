"""What the bake-off tells: tables of 80 columns, sentences that judge, JSON and CSV for other programs."""

import csv
import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import run_folder
from experiments.bakeoff_parts import parts as files
from experiments.bakeoff_parts import pictures
from experiments.bakeoff_parts.parts import Part
from experiments.bakeoff_parts.plan import ITEMS, MODELS, PREDICTORS, SETS, TITLES, TRUTH, Item, Settings

SAMPLERS = ("denoising", "DDPM", "flow")
_MODES, _VALLEY, _FLOOR = 0.95, 0.05, 0.05
_ORDER = ("ce", "mse", "denoising", "ddpm", "flow")
_MANY = 1_000_000


def write(settings: Settings, folder: run_folder.RunFolder, wall_seconds: float, notes: list[str]) -> str:
    """Reads the parts, writes tables and pictures, and returns the text for the terminal."""
    found = {item: files.read(files.path_of(folder.path, item)) for item in ITEMS}
    scores = {data: collect(found, data) for data in SETS}
    verdicts = judge(settings, found, scores)
    text = "\n".join(
        [
            *(table(found, scores[data], data) for data in SETS),
            *(remark(sentence, "reached " if good else "MISSED  ") for sentence, good in verdicts),
            *(remark(sentence, "! ") for sentence in (*memorised(settings, found), *notes)),
        ]
    )
    path = folder.path
    pictures.curves(found, path / "curves.png")
    pictures.spread(found, scores, path / "spread.png")
    put(path / "curves.csv", curves(found))
    put(path / "bakeoff.txt", text + "\n")
    run_folder.write_json(path / "bakeoff.json", as_json(settings, found, scores, verdicts))
    folder.write_summary(_summary(settings, folder.path, found, verdicts, wall_seconds, notes))
    wrote = f"written: {path}/spread.png, curves.png, bakeoff.json, curves.csv, bakeoff.txt"
    seconds = sum(sum(part.facts["times"][k] for k in ("train_s", "score_s")) for part in found.values())
    return f"{text}\n{wrote}\n{wall_seconds:.0f} s; processor time of the ten runs {seconds:.0f} s"


def collect(found: Mapping[Item, Part], data: str) -> dict[str, dict[str, Any]]:
    """Predictor -> its scores on a set, the demonstrators among them."""
    rows = {}
    for predictor in PREDICTORS:
        facts = found[Item(data, predictor.model)].facts
        rows[predictor.name] = facts["scores"][predictor.name] | {"ms": facts["times"][predictor.name]}
    rows[TRUTH] = found[Item(data, "mse")].facts["scores"][TRUTH] | {"ms": None}
    return rows


def table(found: Mapping[Item, Part], scores: Mapping[str, Mapping[str, Any]], data: str) -> str:
    """Losses and scores of one set."""
    lines = [
        f"{data}: losses after {found[Item(data, 'mse')].facts['steps']:,} steps of 64",
        f"{'':<11}{'parameters':>11}{'training':>10}{'validation':>12}{'floor':>9}{'over it':>10}"
        f"{'best':>9}{'step':>8}",
    ]
    for model in _ORDER:
        facts = found[Item(data, model)].facts
        last, best = (100 * (facts[k] / facts["floor"] - 1) for k in ("val_loss", "best_val_loss"))
        lines.append(
            f"{TITLES[model]:<11}{facts['parameters']:>11,}{facts['train_loss']:>10.4f}"
            f"{facts['val_loss']:>12.4f}{facts['floor']:>9.4f}{last:>8.1f} %{best:>7.1f} %"
            f"{facts['best_step']:>8,}"
        )
    lines += [
        "",
        f"{data}: actions, of the parameters with the best validation loss",
        f"{'':<18}{'spread':>8}{'both ways' if data == 'bimodal' else 'on it':>11}{'between':>9}"
        f"{'energy':>9}{'W1':>8}{'calls':>7}{'ms/action':>10}",
    ]
    for name, row in scores.items():
        between = "-" if row["valley"] is None else f"{100 * row['valley']:.1f} %"
        lines.append(
            f"{name:<18}{row['spread']:>8.3f}{100 * row['modes']:>9.1f} %{between:>9}{row['energy']:>9.3f}"
            f"{row['wasserstein']:>8.3f}"
            + (f"{row['calls']:>7}{row['ms']:>10.2f}" if row["calls"] else f"{'-':>7}{'-':>10}")
        )
    return "\n".join([*lines, ""])


def judge(
    settings: Settings, found: Mapping[Item, Part], scores: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[tuple[str, bool]]:
    """What drill 3 wants to be seen, and whether it was; nothing of a smoke."""
    if settings.smoke:
        return []
    both = scores["bimodal"]
    widest = max(scores[data][name]["spread"] for data in SETS for name in ("CE argmax", "MSE"))
    one = both["MSE"]["valley"]
    others = max(both[name]["valley"] for name in SAMPLERS)
    least = min(both[name]["modes"] for name in SAMPLERS)
    told = [
        (f"CE argmax and MSE have no spread: {widest:g} N m", widest == 0),
        (
            f"MSE answers between the two ways: {100 * one:.0f} % of its answers lie in the middle quarter "
            f"of the gap, {100 * both[TRUTH]['valley']:.1f} % of the demonstrators'",
            one > 5 * max(others, both[TRUTH]["valley"]),
        ),
        (
            "denoising, DDPM and flow find both ways for "
            f"{_percents(both, 'modes')} of the observations "
            f"(asked: {100 * _MODES:.0f} %)",
            least >= _MODES,
        ),
        (
            f"between the ways lie {_percents(both, 'valley')} of their predictions "
            f"(asked: under {100 * _VALLEY:.0f} %)",
            others < _VALLEY,
        ),
    ]
    if settings.pairs >= _MANY:
        over = max(part.facts["val_loss"] / part.facts["floor"] for part in found.values()) - 1
        told.append(
            (
                f"every validation loss is within {100 * _FLOOR:.0f} % of its floor: {100 * over:.1f} %",
                over <= _FLOOR,
            )
        )
    return told


def _percents(rows: Mapping[str, Mapping[str, Any]], score: str) -> str:
    return ", ".join(f"{100 * rows[name][score]:.1f}" for name in SAMPLERS) + " %"


def memorised(settings: Settings, found: Mapping[Item, Part]) -> list[str]:
    """Why validation losses end above what is possible, from the training losses."""
    below = {
        item: part.facts
        for item, part in found.items()
        if part.facts["train_loss"] < 0.99 * part.facts["floor"] < part.facts["val_loss"]
    }
    if not below or settings.smoke:
        return []
    worst = max(below, key=lambda item: below[item]["val_loss"] / below[item]["floor"])
    facts = below[worst]
    under, over = (100 * abs(facts[k] / facts["floor"] - 1) for k in ("train_loss", "val_loss"))
    names = ", ".join(sorted({TITLES[item.model] for item in below}, key=list(TITLES.values()).index))
    return [
        f"{names}: the training loss is below the floor, which no model can reach on new data. That is "
        f"memorising: {facts['parameters']:,} parameters see {settings.pairs:,} pairs fifty times. Furthest "
        f"goes {TITLES[worst.model]} ({worst.data}): training {under:.0f} % under the floor, validation "
        f"{over:.0f} % over it. --pairs={_MANY} shows each pair once."
        if settings.pairs < _MANY
        else f"{names}: the training loss is below the floor: memorising"
    ]


def curves(found: Mapping[Item, Part]) -> str:
    """The curves as a table: one row per step, per run training, validation, and validation over floor."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    items = [Item(data, model) for data in SETS for model in _ORDER]
    kinds = ("train", "validation", "validation_over_floor")
    rows.writerow(["step", *(f"{item.name}/{kind}" for item in items for kind in kinds)])
    for i, step in enumerate((0, *found[items[0]].arrays["steps"])):
        cells = [int(step)]
        for item in items:
            part = found[item]
            value = part.arrays["validation"][i]
            cells += ["" if i == 0 else part.arrays["train"][i - 1], value, value / part.facts["floor"]]
        rows.writerow(cells)
    return text.getvalue()


def as_json(settings: Settings, found, scores, verdicts) -> dict[str, Any]:
    """Everything of the tables; what a clock measured apart, so that the rest is the same in every run."""
    runs = {
        item.name: {k: v for k, v in found[item].facts.items() if k not in ("times", "scores")}
        for item in ITEMS
    }
    return {
        "settings": settings._asdict(),
        "runs": runs,
        "scores": {
            data: {name: {k: v for k, v in row.items() if k != "ms"} for name, row in rows.items()}
            for data, rows in scores.items()
        },
        "verdicts": [{"text": text, "reached": good} for text, good in verdicts],
        "timing": {item.name: found[item].facts["times"] for item in ITEMS},
    }


def put(path: Path, text: str) -> None:
    """Writes a text that is there whole or not at all."""
    temporary = path.with_name(path.name + ".writing")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def remark(sentence: str, mark: str) -> str:
    """A sentence behind its mark, wrapped for 80 columns."""
    return textwrap.fill(sentence, 79, initial_indent=mark, subsequent_indent=" " * len(mark))


def _summary(settings, out, found, verdicts, wall_seconds, notes) -> run_folder.Summary:
    """The documented fields; a verdict that was missed is a finding."""
    return run_folder.Summary(
        status="finished",
        loss=", ".join(_ORDER),
        data="inverse_dynamics",
        out=str(out),
        seed=settings.seed,
        steps=sum(part.facts["steps"] for part in found.values()),
        steps_per_second=None,
        wall_seconds=wall_seconds,
        train_loss=None,
        val_loss=None,
        floor=None,
        parameters_sha256=None,
        findings=(*("missed: " + text for text, good in verdicts if not good), *notes),
        extra={"models": list(MODELS)},
    )
