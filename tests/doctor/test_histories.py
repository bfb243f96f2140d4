"""Curves out of files of every make, whole and cut in half."""

import json

import numpy as np
import pytest

from ch3_jax import writers
from ch3_jax.doctor.histories import read
from ch3_jax.errors import InputError

LEROBOT = """\
INFO 2025-05-28 12:12:40 train.py:232 step:200 smpl:2K ep:3 epch:0.16 loss:7.490 grdn:154.502 lr:1.0e-05
INFO 2025-05-28 12:12:48 train.py:232 step:400 smpl:3K ep:7 epch:0.33 loss:3.128 grdn:85.109 lr:1.0e-05
Training:  50%|#####     | 3/6 [00:08<00:06]INFO ot_train.py:606 step:600 smpl:5K ep:10 loss:2.615 grdn:74.9
INFO 2025-05-28 12:13:05 train.py:232 step:800 smpl:6K ep:13 epch:0.65 loss:2.331 grdn:68.764 lr:1.0e-05
INFO 2025-05-28 12:13:14 ts/train.py:232 step:1K smpl:8K ep:16 epch:0.81 loss:2.1 grdn:60.0 lr:1.0e-05
INFO 2025-05-28 12:13:14 ts/train.py:232 step:1K smpl:10K ep:19 epch:0.97 loss:2.0 grdn:50.0 lr:1.0e-05
INFO 2024-08-14 13:38:45 ts/train.py:226 step:1K smpl:10K ep:52 epch:0.25 success:25.0% eval_s:120.266
"""
OPENPI = """\
Step 0: grad_norm=3.5321, loss=0.9123, param_norm=1802.1234
  1%|1         | 100/30000 [01:02<5:00:00]\rStep 100: grad_norm=0.5321, loss=0.1123, param_norm=1802.2
"""
OPENPI_PYTORCH = (
    "INFO:root:step=100 loss=0.0123 lr=2.50e-05 grad_norm=0.52 time=61.0s\nstep=200 loss=nan lr=2.5e-05\n"
)
OCTO = """\
I0101 12:00:00 train.py:3] step 100: {'training/mse': 0.5, 'training/loss': 0.25, 'training/grad_norm': 1.2}
I0101 12:00:10 train.py:3] step 200: {'training/mse': 0.4, 'training/loss': 0.20, 'training/grad_norm': 1.1}
"""


def curve(history, role):
    series = history.role(role)
    return series.steps.tolist(), series.values.tolist()


@pytest.fixture
def written(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return read(path)

    return write


def test_our_own_table_and_its_cut_row(written):
    history = written(
        "metrics.csv", "step,loss,val_loss,gradient_norm\n100,5.5,,1\n100,,5.6,\n200,5.25,,0.5\n300,5."
    )
    assert curve(history, "loss") == ([100, 200], [5.5, 5.25])
    assert curve(history, "val_loss") == ([100], [5.6])
    assert curve(history, "gradient_norm") == ([100, 200], [1, 0.5])
    assert "not written to its end" in history.notes[0]


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        (
            "epoch,step,train_loss_step,train_loss_epoch\n0,49,0.5,\n0,99,0.25,\n0,99,,0.4\n",
            ([49, 99], [0.5, 0.25]),
        ),
        (
            '"Step","run-3 - train/loss","run-3 - train/loss__MIN"\n"1","2.0","0"\n"2","1.5","0"\n',
            ([1, 2], [2, 1.5]),
        ),
        ("iter;loss\n1;tensor(0.5, device='cuda:0')\n2;nan\n", None),
        ("Epoch\tLoss\n1\t3.0\n2\tinf\n", ([1, 2], [3.0, np.inf])),
        ("1,0.5\n2,0.25\n", ([1, 2], [0.5, 0.25])),
    ],
    ids=["lightning", "wandb export", "tensors", "tabs", "no header"],
)
def test_tables_of_others(written, text, loss):
    history = written("log.csv", text)
    if loss is None:  # NaN is not equal to itself
        assert history.role("loss").values[0] == 0.5
        assert np.isnan(history.role("loss").values[1])
    else:
        assert curve(history, "loss") == loss


def test_json_lines_nested_and_cut(written):
    lines = [json.dumps({"_step": s, "training": {"loss": 1 / (s + 1)}, "note": "x"}) for s in (0, 10)]
    history = written("log.jsonl", "\n".join([*lines, '{"_step": 20, "trai']))
    assert curve(history, "loss") == ([0, 10], [1, 1 / 11])
    assert "cut off" in history.notes[0]


def test_trainer_state_and_lists(written):
    state = {
        "log_history": [
            {"loss": 2.0, "step": 5},
            {"eval_loss": 1.0, "step": 5},
            {"loss": float("nan"), "step": 6},
        ]
    }
    history = written("trainer_state.json", json.dumps(state))
    assert curve(history, "val_loss") == ([5], [1])
    assert history.role("loss").steps.tolist() == [5, 6]
    assert curve(written("history.json", '{"loss": [3, 2], "val_loss": [4, 5]}'), "val_loss") == (
        [0, 1],
        [4, 5],
    )


def test_lerobot_counts_on_where_it_writes_thousands(written):
    history = written("train.log", LEROBOT)
    assert curve(history, "loss") == ([200, 400, 600, 800, 1000, 1200], [7.49, 3.128, 2.615, 2.331, 2.1, 2.0])
    assert curve(history, "gradient_norm")[1][:2] == [154.502, 85.109]
    assert curve(history, "success") == ([1200], [0.25])
    assert "thousands" in history.notes[0]


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        (OPENPI, ([0, 100], [0.9123, 0.1123])),
        (OCTO, ([100, 200], [0.25, 0.2])),
        (
            "Epoch 1/2 - loss: 0.5 - val_loss: 0.7\nEpoch 2/2 - loss: 0.4 - val_loss: 0.6\n",
            ([1, 2], [0.5, 0.4]),
        ),
        (
            "Epoch [1/2], Step [100/500], Loss: 0.5\nEpoch [1/2], Step [200/500], Loss: 0.4\n",
            ([100, 200], [0.5, 0.4]),
        ),
    ],
    ids=["openpi", "octo", "keras", "tutorial"],
)
def test_text_logs(written, text, loss):
    assert curve(written("train.log", text), "loss") == loss


def test_openpi_pytorch_keeps_its_nan(written):
    history = written("train.log", OPENPI_PYTORCH)
    assert history.role("loss").steps.tolist() == [100, 200]
    assert np.isnan(history.role("loss").values[1])
    assert curve(history, "learning_rate") == ([100, 200], [2.5e-05, 2.5e-05])


def test_events_whole_cut_in_half_and_resumed(tmp_path):
    writer = writers.tensorboard_writer(tmp_path)
    for step in range(1, 11):
        writer.write(step, {"train/loss": 1 / step, "grad_norm": float(step)})
    writer.close()
    (path,) = tmp_path.glob("*tfevents*")
    whole = read(path)
    np.testing.assert_allclose(whole.role("loss").values, 1 / np.arange(1, 11), rtol=1e-6)
    assert whole.role("gradient_norm").steps.tolist() == list(range(1, 11))

    half = tmp_path / "half.tfevents.1"
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cut = read(half)
    assert 2 < len(cut.role("loss").steps) < 8
    assert "cut off" in cut.notes[0]
    half.unlink()

    again = writers.tensorboard_writer(tmp_path, purge_step=6)
    again.write(6, {"train/loss": 7.0})
    again.close()
    resumed = read(tmp_path)
    assert resumed.role("loss").steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert resumed.role("loss").values[-1] == 7
    assert "resumed at step 6" in resumed.notes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("b.log", b"nothing to see\n"),
        ("c.bin", b"\0\1\2"),
        ("d.tfevents", b"\0" * 7),
        ("e.json", b"{}"),
    ],
)
def test_nothing_to_read_is_refused_with_words(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"curve|cut off|damaged"):
        read(tmp_path / name)


def test_a_hostile_name_is_only_a_name(written):
    history = written("x.csv", "step,<script>alert(1)</script>/loss\n1,2\n")
    assert curve(history, "loss") == ([1], [2])
