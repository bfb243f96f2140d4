"""The table read back: what was written, column by column, and damage that is named."""

import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.metrics import read_csv
from ch3_jax.writers import csv_writer


def test_by_hand(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text('step,loss,"a, b",val_loss\n100,3.5,1,\n100,,,4\n200,nan,2,\n300,3.')
    columns = read_csv(path)
    assert list(columns) == ["loss", "a, b", "val_loss"]
    np.testing.assert_array_equal(columns["loss"].steps, [100, 200])
    np.testing.assert_array_equal(columns["loss"].values, [3.5, np.nan])
    np.testing.assert_array_equal(columns["val_loss"], [[100], [4]])
    assert list(read_csv(path, {"val_loss", "missing"})) == ["val_loss"]


def test_gives_back_what_was_written(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    table = csv_writer(tmp_path / "m.csv", ["x", "y"])
    for i, row in enumerate(numbers):
        table.write(i, {"x": row[0]} if i % 3 else {"y": row[1]})
    table.close()
    columns = read_csv(tmp_path / "m.csv")
    steps = np.arange(200)
    for j, (name, rows) in enumerate({"x": steps % 3 > 0, "y": steps % 3 == 0}.items()):
        np.testing.assert_array_equal(columns[name].steps, steps[rows])
        np.testing.assert_array_equal(columns[name].values.astype(np.float32), numbers[rows, j])


@pytest.mark.parametrize("content", ["", "step,lo", "step,loss\n"])
def test_a_table_without_rows_has_empty_columns(tmp_path, content):
    (tmp_path / "m.csv").write_text(content)
    assert all(len(s.steps) == len(s.values) == 0 for s in read_csv(tmp_path / "m.csv").values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"loss,step\n1,2\n", "first column 'loss'"),
        (b"step,loss\n1,2\n1,2,3\n", "line 3 with other than 2 cells"),
        (b"step,loss\n1,2\n\n", "line 3 with other than 2 cells"),
        (b"step,loss\n1,two\n", "two"),
        (b"step,loss\none,2\n", "one"),
        (b"\xff\xfe\x00", "decode"),
    ],
)
def test_refuses_what_is_no_table(tmp_path, content, words):
    if content is not None:
        (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_csv(tmp_path / "m.csv")
