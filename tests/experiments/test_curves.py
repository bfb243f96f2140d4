"""The picture: what is in it, on which axes, and that odd runs have one too."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.writers import csv_writer
from experiments import curves

STEPS = np.arange(100, 10_001, 100)
LOSS = 2.73 + 2.8 * np.exp(-STEPS / 1500)


@pytest.fixture
def figure(monkeypatch):
    """() -> the figure of the last `draw`."""
    drawn = []
    frame = curves._frame

    def kept(title):
        drawn.append(frame(title))
        return drawn[-1]

    monkeypatch.setattr(curves, "_frame", kept)
    return lambda: drawn[-1]


def _size(path: Path) -> tuple[int, int]:
    """Width and height, from bytes 16 to 24 of every PNG."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")


def _legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_run_from_its_table(tmp_path, figure):
    table = csv_writer(tmp_path / "m.csv", ["loss", "gradient_norm", "update_ratio", "val_loss"])
    for step, loss in zip(STEPS, LOSS, strict=True):
        table.write(step, {"loss": loss, "gradient_norm": loss, "update_ratio": 1e-3})
        if step % 1000 == 0:
            table.write(step, {"val_loss": loss + 0.01})
    table.close()
    out = curves.draw(tmp_path / "m.csv", tmp_path / "curves.png", 2.7305, "floor", "inverse_dynamics")
    assert out == tmp_path / "curves.png" and _size(out) == (1200, 800)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "m.csv"]
    picture, top, panels = figure()
    assert [text.get_text() for text in picture.texts] == ["inverse_dynamics"]
    # The last loss is 2.73 + 2.8 exp(-10000/1500) = 2.7336, its validation 2.7436.
    assert _legend(top)[1:] == ["validation: 2.744", "floor: 2.731"]
    assert _legend(top)[0].startswith("train: 2.73")
    assert top.get_ylabel() == "loss (nats)" and top.get_yscale() == "linear"
    assert [p.get_yscale() for p in panels] == ["log", "log"]
    raw, mean, validation, floor = top.lines
    np.testing.assert_allclose(raw.get_xydata(), np.stack([STEPS, LOSS], 1), rtol=1e-6)
    np.testing.assert_array_equal(validation.get_xdata(), np.arange(1000, 10_001, 1000))
    assert set(floor.get_ydata()) == {2.7305} and floor.get_linestyle() == "--"
    assert top.get_ylim()[0] < 2.7305


def test_the_legend_hides_no_data(tmp_path, figure):
    curves.draw(
        {"loss": (STEPS, LOSS), "val_loss": (STEPS, LOSS)}, tmp_path / "c.png", 2.0, "x" * 60, "title"
    )
    picture, top, _ = figure()
    renderer = picture.canvas.get_renderer()
    legend = top.get_legend().get_window_extent(renderer)
    assert legend.y0 >= top.get_window_extent(renderer).y1 - 2
    assert legend.x1 <= 1200 and legend.y1 <= picture.texts[0].get_window_extent(renderer).y0 + 2


def test_squares_fall_on_a_logarithmic_axis(tmp_path, figure):
    values = np.append(0.5 * np.exp(-STEPS[:-1] / 2000), 0.0)  # A zero has no logarithm.
    curves.draw({"loss": (STEPS, values[::-1] + 1e-3)}, tmp_path / "c.png", unit="squared normalised units")
    assert figure()[1].get_yscale() == "log"
    assert figure()[1].get_ylabel() == "loss (squared normalised units, log scale)"
    curves.draw({"loss": (STEPS, values)}, tmp_path / "c.png", unit="squared normalised units", log=True)
    assert figure()[1].get_yscale() == "log"
    curves.draw({"loss": (STEPS, values)}, tmp_path / "c.png", unit="squared normalised units")
    assert figure()[1].get_yscale() == "linear"
    curves.draw({"loss": (STEPS, np.geomspace(5, 1e6, 100))}, tmp_path / "c.png")
    assert figure()[1].get_yscale() == "log"  # A cross-entropy that diverges.


def test_numbers_that_are_not_finite_are_marked(tmp_path, figure):
    values = LOSS.copy()
    values[70:] = np.nan
    norms = np.where(np.isnan(values), np.inf, LOSS)
    curves.draw({"loss": (STEPS, values), "gradient_norm": (STEPS, norms)}, tmp_path / "c.png")
    assert "not finite: 30 of 100 rows, first at step 7,100" in _legend(figure()[1])


NAN = ([100], [np.nan])


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"loss": ([], [])},
        {"loss": ([100], [5.5])},
        {"loss": NAN},
        {"loss": NAN, "val_loss": NAN, "gradient_norm": NAN, "update_ratio": NAN},
        {"val_loss": ([100, 200], [5.5, 5.4])},
        {"loss": (STEPS, np.full(100, 2.0)), "gradient_norm": (STEPS, np.zeros(100))},
        {"loss": (STEPS, np.full(100, 1e30)), "update_ratio": (STEPS, np.full(100, 1e-30))},
        {"loss": (STEPS, -LOSS)},
        {"loss": ([1_000_000_000], [0.0]), "gradient_norm": ([1], [1e38])},
    ],
)
@pytest.mark.parametrize(("log", "floor"), [(None, float("nan")), (True, 2.73), (True, None)])
@pytest.mark.filterwarnings("error")
def test_odd_runs_have_a_picture_too(tmp_path, columns, log, floor):
    out = curves.draw(columns, tmp_path / "c.png", floor, title="cost: $5 and $6", log=log)
    assert _size(out) == (1200, 800)


def test_smoothed_is_the_mean_of_its_window():
    values = np.random.default_rng(0).normal(size=500)
    values[[3, 250]] = np.nan, np.inf
    values[300:320] = np.nan
    finite = np.where(np.isfinite(values), values, np.nan)
    # 500 // 100 = 5 on either side.
    windows = [finite[max(i - 5, 0) : i + 6] for i in range(500)]
    expected = [np.nan if np.isnan(w).all() else np.nanmean(w) for w in windows]
    np.testing.assert_allclose(curves.smoothed(values), expected, rtol=1e-9, atol=1e-12)
    assert np.isnan(curves.smoothed(values)[310])


def test_thinned_keeps_every_extreme():
    values = np.random.default_rng(0).normal(size=10_000)
    values[1234], values[5678], values[9000:9200] = 50.0, -50.0, np.nan
    steps, kept = curves.thinned(np.arange(10_000), values, 100)
    assert len(steps) <= 200 and (np.diff(steps) > 0).all()
    np.testing.assert_array_equal(values[steps], kept)
    stretches = values.reshape(100, 100)
    for i in (*range(90), *range(92, 100)):
        inside = kept[steps // 100 == i]
        assert (inside.min(), inside.max()) == (stretches[i].min(), stretches[i].max())


def test_a_long_run_is_drawn_with_few_points(tmp_path, figure):
    steps = np.arange(100_000)
    values = np.random.default_rng(0).normal(size=100_000) + 5
    names = ("loss", "val_loss", "gradient_norm", "update_ratio")
    curves.draw(dict.fromkeys(names, (steps, values)), tmp_path / "c.png")
    assert all(len(line.get_xdata()) <= 2000 for axes in (figure()[1], *figure()[2]) for line in axes.lines)


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OSError):
        curves.draw({"loss": (STEPS, LOSS)}, tmp_path / "missing" / "c.png")


def test_a_missing_matplotlib_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        curves.draw({}, tmp_path / "c.png")


def test_matplotlib_is_loaded_to_draw_only_and_never_pyplot(tmp_path):
    code = f"""
import sys
from experiments import curves
early = "matplotlib" in sys.modules
curves.draw({{"loss": ([1, 2], [3.0, 2.0])}}, {str(tmp_path / "c.png")!r})
sys.exit(10 * early + ("matplotlib.pyplot" in sys.modules))
"""
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
