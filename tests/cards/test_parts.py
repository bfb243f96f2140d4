"""The rooms below the reader: markup, segments, scopes, settings, numbers."""

import pytest

from ch3_jax.cards import keys, markup, pairs, phrases, scope, segments


@pytest.mark.parametrize(
    "text",
    [
        "a [link](http://x.y) and **bold** `code`",
        "<p>one &amp; two</p>\r\n<table><tr><td>a</td></tr></table>",
        "text (Smith et al., 2020) more [3, 4] and $\\pi$\n\n## References\n[1] Flow matching.\n",
        "@article{x,\n title={PPO},\n}\nafter\n",
    ],
)
def test_cleaning_moves_nothing(text):
    clean = markup.clean(text)
    assert len(clean) == len(text)
    kept = [(i, c) for i, c in enumerate(clean) if c.isalnum()]
    assert all(text[i] == c or text[i] == "&" for i, c in kept)


def test_bibliographies_are_not_read():
    clean = markup.clean(
        "Trained with L1.\n\n# References\n\n[1] Flow matching for robots.\n\n# Appendix\n\nMore."
    )
    assert "Flow" not in clean
    assert "More" in clean


def test_kinds_of_segments():
    text = "# Title\n\nA sentence. Another.\n\n- item one\n\n| a | b |\n|---|---|\n| lr | 1 |\n\nlr: 1e-4\n"
    assert [part.kind for part in segments.segments(text)] == [
        *("heading", "prose", "prose", "item", "row", "row", "setting")
    ]


def test_a_list_inherits_its_lead_in():
    text = "Available losses:\n\n- MSE\n- CE\n\nPlain.\n"
    assert [part.lead for part in segments.segments(text)] == [
        "",
        "Available losses:",
        "Available losses:",
        "",
    ]


@pytest.mark.parametrize(
    ("sentence", "word", "status"),
    [
        ("We do not use X but Y.", "X", "negated"),
        ("We do not use X but Y.", "Y", "asserted"),
        ("Unlike A, which uses X, we use Y.", "X", "negated"),
        ("Unlike A, which uses X, we use Y.", "Y", "asserted"),
        ("We replace X with Y.", "X", "negated"),
        ("We replace X with Y.", "Y", "asserted"),
        ("X is not used.", "X", "negated"),
        ("Not only X but also Y is used.", "X", "asserted"),
        ("Prior work uses X; we use Y.", "X", "other"),
        ("Prior work uses X; we use Y.", "Y", "asserted"),
        ("It is better than X.", "X", "compared"),
        ("One could use X.", "X", "perhaps"),
        ("A frozen X is followed by Y.", "X", "negated"),
        ("X suffers from averaging, so we use Y.", "X", "other"),
        ("X suffers from averaging, so we use Y.", "Y", "asserted"),
        ("The data were collected by X.", "X", "other"),
        ("While X is common, we use Y.", "X", "other"),
    ],
)
def test_scopes(sentence, word, status):
    at = sentence.index(word)
    assert scope.status(scope.scopes(sentence), at, at + len(word))[0] == status


def pairs_of(text):
    clean = markup.clean(text)
    return {pair.key: pair.value for pair in pairs.pairs(clean, segments.segments(clean))}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("lr: 1e-4  # peak", {"lr": "1e-4"}),
        ("chunk_size: int = 50,", {"chunk_size": "50"}),
        ("a:\n  b:\n    c: 3\n", {"a.b.c": "3"}),
        ("| `x.y` | `7` | words |", {"x.y": "7"}),
        ("--steps=3 --lr 1e-3", {"steps": "3", "lr": "1e-3"}),
        ("We set `n_bins=8` here.", {"n_bins": "8"}),
        ("`n_bins` (int, optional, defaults to 9): bins.", {"n_bins": "9"}),
        ('{"a_b": 1, "c_d": "x"}', {"a_b": "1", "c_d": "x"}),
    ],
)
def test_pairs(text, found):
    assert pairs_of(text) == found


@pytest.mark.parametrize(
    ("key", "value", "about", "meaning"),
    [
        ("num_inference_steps", "10", "", ("inference_steps", 10)),
        ("num_train_timesteps", "100", "", ("train_timesteps", 100)),
        ("repeated_diffusion_steps", "8", "", None),
        ("num_flow_timesteps", "8", "sampled per example during training", None),
        ("max_train_steps", "20000", "", ("steps", 20000)),
        ("warmup_steps", "500", "", ("warmup_steps", 500)),
        ("chunk_size", "50", "", ("chunk", 50)),
        ("buf_chunk_size", "512", "", None),
        ("horizon", "16", "", ("chunk", 16)),
        ("env.horizon", "400", "", None),
        ("n_obs_steps", "2", "", ("observations", 2)),
        ("n_action_steps", "8", "", ("executed", 8)),
        ("action_bins", "256", "", ("bins", 256)),
        ("value_bins", "101", "", None),
        ("beta_schedule", "squaredcos_cap_v2", "", ("schedule", "cosine")),
        ("lr_scheduler_type", "cosine", "", ("lr_schedule", "cosine")),
        ("prediction_type", "sample", "", ("prediction", "sample")),
        ("max_grad_norm", "1.0", "", ("clip_norm", 1)),
        ("optim", "adamw_torch_fused", "", ("optimizer", "adamw")),
        ("bf16", "true", "", ("dtype", "bfloat16")),
        ("frames", "16", "", None),
    ],
)
def test_keys(key, value, about, meaning):
    assert keys.meaning(pairs.Pair(key, value, about, 0, 0)) == meaning


@pytest.mark.parametrize(
    ("sentence", "name", "value"),
    [
        ("The cosine noise schedule is used.", "schedule", "cosine"),
        ("A cosine learning rate schedule is used.", "schedule", None),
        ("A cosine learning rate schedule is used.", "lr_schedule", "cosine"),
        ("Between 4 and 10 denoising steps suffice.", "inference_steps", None),
        ("We use ten denoising steps.", "inference_steps", 10),
        ("The clip has 16 frames.", "chunk", None),
        ("A learning rate of 3 x 10^-4 is used.", "learning_rate", 3e-4),
    ],
)
def test_numbers_in_sentences(sentence, name, value):
    found = {said.name: said.value for said in phrases.said(sentence)}
    assert found.get(name) == value
