"""The reader on passages about invented systems, and what must hold for every text."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch3_jax.cards import facts, read
from ch3_jax.cards.records import FAMILIES, FORMS, OUTPUTS
from ch3_jax.cards.vocabulary import TERMS

PASSAGES = [json.loads(line) for line in (Path(__file__).parent / "passages.jsonl").read_text().splitlines()]
NUMBERS = ("bins", "chunk", "schedule", "inference_steps")
# Names that stand in the passages, and others for them: as many words, no word of the vocabulary.
RENAMED = {
    "Zorbo": "Qwick",
    "Kestrel": "Bramble-3",
    "Tern": "Nimbo",
    "Plover": "Ottar",
    "Ibis": "Rowan",
    "Wren": "Drift9",
}


@pytest.mark.parametrize(
    "row", PASSAGES, ids=[f"{r['group']}-{r['name']}".replace(" ", "_") for r in PASSAGES]
)
def test_passages(row):
    """`family` lists what is accepted; a number that a passage does not give must not be read."""
    got = read(row["text"]).labels()
    wanted = {**dict.fromkeys(NUMBERS), **row["labels"]}
    for name, value in wanted.items():
        if name == "family":
            assert got["family"] in value
        elif name == "form":
            assert set(got["form"]) == set(value)
        else:
            assert got[name] == value, name


def test_names_are_not_remembered():
    """The same passages about systems of other names say the same."""
    changed = 0
    for row in PASSAGES:
        text = row["text"]
        for name, other in RENAMED.items():
            text = text.replace(name, other)
        if text != row["text"]:
            changed += 1
            assert read(text).labels() == read(row["text"]).labels(), text
    assert changed > 15


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "Unlike OpenVLA we do not discretize; pi0 showed that flow matching works, and so do we use it.",
            "OpenVLA pi0",
        ),
        ("Octo and RT-1 are baselines. Our policy is trained with an L1 loss.", "Octo RT-1"),
        (
            "ACT predicts 100 actions; SmolVLA is trained with flow matching on chunks of 50 actions.",
            "ACT SmolVLA",
        ),
    ],
)
def test_famous_names_are_words_like_others(text, names):
    other = text
    for index, name in enumerate(names.split()):
        other = other.replace(name, ("Marlo", "Tavix-2")[index])
    assert read(text).labels() == read(other).labels()


def test_a_famous_name_alone_says_nothing():
    for key in facts.names():
        name = facts.load(key).name
        if name != "Diffusion Policy":  # A description, not only a name.
            assert read(f"We evaluate {name} on our robot.").family.value == "unknown", name
    famous = ("OpenVLA", "pi0", "Octo", "RT-1", "RDT", "ACT", "SmolVLA", "GR00T")
    assert not [term for term in TERMS for name in famous if term.pattern.search(name)]


def test_a_tokens_sentence_gives_exactly_its_commitments():
    """What the chapter reads out of such a sentence: family, form, output, bins."""
    found = read(
        "The model is fine-tuned to predict the seven action tokens autoregressively: each action "
        "dimension is "
        "discretized into 256 bins, and a cross-entropy loss is evaluated on the predicted tokens only."
    )
    assert found.family.value == "supervised"
    assert found.forms_as("main") == ("cross_entropy",)
    assert found.output.value == "tokens"
    assert {name: f.value for name, f in found.settings.items()} == {"bins": 256}
    assert len(found.forms) == 1


def test_a_flow_sentence_gives_exactly_its_commitments():
    """Family, form, output, chunk, integration steps; the prediction is what the form implies."""
    found = read(
        "The action expert is trained with a conditional flow matching loss to produce action chunks "
        "of 50 steps, "
        "and at inference the learned vector field is integrated with 10 Euler steps."
    )
    assert found.family.value == "self_supervised"
    assert found.forms_as("main") == ("flow_matching",)
    assert found.output.value == "denoised_chunk"
    assert {name: f.value for name, f in found.settings.items()} == {
        "chunk": 50,
        "inference_steps": 10,
        "prediction": "velocity",
        "sampler": "euler",
    }


def test_evidence_points_at_its_words():
    for row in PASSAGES:
        text, found = row["text"], read(row["text"])
        places = [f.evidence for f in (*found.forms, *found.settings.values(), *found.set_aside)]
        for place in places:
            assert " ".join(text[place.start : place.end].split()) == place.words
            line = text.splitlines()[place.line - 1]
            assert line[place.column - 1] == text[place.start]
            assert len(place.words) > 0


def test_confidence_tells_plain_from_implied():
    plain = read("The policy is trained with a cross-entropy loss on action tokens.").family.confidence
    implied = read("The policy is trained to imitate experts.").family.confidence
    offered = read("The policy can be trained with either MSE or an L1 loss.").family.confidence
    assert plain >= 0.9
    assert implied < 0.9
    assert 0 < offered < implied


def test_roles():
    found = read(
        "First the model is pre-trained with next-token prediction. Then it is fine-tuned with flow "
        "matching plus an "
        "auxiliary L1 loss on the gripper. The reward model is trained with binary cross-entropy."
    )
    roles = {form.value: (form.role, form.of) for form in found.forms}
    assert roles["flow_matching"] == ("main", "")
    assert roles["cross_entropy"][0] == "earlier_stage"
    assert roles["l1"][0] == "auxiliary"
    assert roles["bce"] == ("component", "reward model")


def test_optimizer_settings():
    found = read(
        "We train with AdamW at a peak learning rate of 2.5e-5, weight decay 0.01, batch size 256, for "
        "30k steps, with "
        "1,000 warm-up steps and a cosine decay schedule. Gradients are clipped to a norm of 1.0. We "
        "use bfloat16 and "
        "an EMA with decay 0.999."
    )
    assert {name: f.value for name, f in found.settings.items()} == {
        "optimizer": "adamw",
        "learning_rate": 2.5e-5,
        "lr_schedule": "cosine",
        "warmup_steps": 1000,
        "weight_decay": 0.01,
        "batch_size": 256,
        "steps": 30000,
        "clip_norm": 1.0,
        "dtype": "bfloat16",
        "ema_decay": 0.999,
    }
    assert found.family.value == "unknown"


def test_statements_that_disagree_are_not_averaged():
    found = read("chunk_size: 8\naction_horizon: 50\n")
    assert "chunk" not in found.settings


def test_html_reads_like_text():
    page = (
        "<html><head><title>PPO</title></head><body><h1>Kestrel</h1><p>Kestrel is trained with "
        "<b>flow</b> matching on chunks of <i>16</i> actions.</p><table><tr><th>Parameter</th>"
        "<th>Value</th></tr><tr><td>Inference denoising steps</td><td>6</td></tr></table></body></html>"
    )
    labels = read(page).labels()
    assert (labels["family"], labels["form"], labels["chunk"]) == ("self_supervised", ["flow_matching"], 16)
    assert labels["inference_steps"] == 6


@pytest.mark.parametrize(
    "text",
    [
        "Das Modell wird mit Flow Matching trainiert und die Aktionen werden in 10 Schritten "
        "integriert, das ist nicht neu.",
        "该模型使用流匹配 flow matching 进行训练，动作块长度为五十，推理时积分十步。",
        "Le modèle est entraîné avec une perte de flow matching et les actions sont prédites dans le "
        "même ordre.",
    ],
)
def test_another_language_is_said_and_not_guessed(text):
    found = read(text)
    assert found.family.value == "unknown"
    assert "not in English" in found.reason
    assert not found.forms


def test_settings_are_read_in_any_language():
    text = "该模型使用流匹配进行训练，动作块长度见下文。\n\nchunk_size: 50\nnum_inference_steps: 10\n"
    labels = read(text).labels()
    assert (labels["chunk"], labels["inference_steps"], labels["family"]) == (50, 10, "unknown")


def test_unknown_comes_with_its_reason():
    assert read("The arm has seven joints.").reason == "no loss, target or reward is named"
    assert "set them aside" in read("It does not use reinforcement learning.").reason
    assert "part" in read("The reward model is trained with binary cross-entropy.").reason
    assert "options" in read("Choose one of: PPO, diffusion policy.").reason


def test_text_only():
    with pytest.raises(TypeError, match="takes a string"):
        read(b"bytes")


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from([r["text"] for r in PASSAGES]), max_size=4), st.text(max_size=80))
def test_any_text_gives_a_reading_of_the_vocabulary(texts, noise):
    """Nothing raises, every value is of the vocabulary, and reading twice gives the same."""
    text = noise.join(texts) + noise
    found = read(text)
    assert found == read(text)
    assert found.family.value in FAMILIES
    assert {form.value for form in found.forms} <= set(FORMS)
    assert found.output is None or found.output.value in OUTPUTS
    assert all(0 < f.confidence <= 1 for f in (*found.forms, *found.settings.values()))


def test_a_paper_that_speaks_of_everybody_is_read_for_its_own_loss():
    others = (
        "Autoregressive models predict tokens with cross-entropy. "
        "Behavior cloning with an MSE loss is simple. Offline RL with CQL uses rewards. "
    )
    text = (
        "Kestrel: a policy for two arms\n\nAbstract\n\nWe present Kestrel. "
        "Diffusion policies denoise actions over many steps, and PPO needs simulation.\n\n"
        f"1 Introduction\n\n{others * 12}\n\n"
        "3 Method\n\nWe train the action expert with conditional flow matching on chunks of 32 actions.\n\n"
        "4 Experiments\n\nThe baselines are trained with L1.\n"
    )
    labels = read(text).labels()
    assert (labels["family"], labels["form"], labels["chunk"]) == ("self_supervised", ["flow_matching"], 32)


def test_a_text_about_many_systems_is_not_one_reading():
    text = (
        "A uses flow matching. B is trained with PPO. C minimizes cross-entropy. D uses SAC. "
        "E regresses with an L1 loss. F is trained with InfoNCE. G uses consistency training."
    )
    found = read(text)
    assert found.family.value == "unknown"
    assert "several systems" in found.reason


def test_a_part_that_is_frozen_is_trained_by_no_loss():
    for text in (
        "Action fine-tune with a flow-matching loss, vision tower frozen.",
        "We train the action head with flow matching; the vision encoder is frozen.",
        "With a frozen visual backbone, flow matching is the loss.",
    ):
        reading = read(text)
        assert reading.family.value == "self_supervised", text
    # And one that is not frozen keeps its loss to itself.
    assert read("The vision encoder is trained with a flow-matching loss.").family.value == "unknown"
