"""The cards: their schema, their sources, and numbers that were read in the systems' own code."""

import copy
import importlib.resources
import json

import pytest

from ch3_jax.cards import facts
from ch3_jax.errors import InputError

KEYS = facts.names()


def raw(key):
    return json.loads((importlib.resources.files("third_party") / "cards" / f"{key}.json").read_text())


def test_the_systems_are_there():
    assert {
        *(
            "rt1",
            "openvla",
            "openvla_oft",
            "act",
            "diffusion_policy",
            "pi0",
            "pi05",
            "pi0_fast",
            "octo",
            "smolvla",
        ),
        *("rdt", "groot_n17", "dppo", "simplevla_rl"),
    } <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_every_fact_has_a_value_a_basis_and_a_source(key):
    card = facts.load(key)
    assert card.key == key
    for field, fact in card.facts.items():
        assert fact.basis in facts.BASES, field
        assert len(fact.source) >= 3, field
        assert fact.paper is None or fact.paper[0] != fact.value, f"{field}: the paper says the same"
    assert {"family", "form", "output", "reduction", "mask"} <= set(card.facts)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (
            "openvla",
            {"learning_rate": 2e-5, "weight_decay": 0.0, "clip_norm": 1.0, "bins": 256, "bin_centres": 255},
        ),
        ("act", {"chunk": 100, "kl_weight": 10.0, "learning_rate": 1e-5, "batch_size": 8, "clip_norm": None}),
        ("diffusion_policy", {"train_timesteps": 100, "chunk": 16, "executed": 8, "warmup_steps": 500}),
        ("octo", {"train_timesteps": 20, "learning_rate": 3e-4, "batch_size": 512, "lr_schedule": "rsqrt"}),
        ("pi0", {"inference_steps": 10, "chunk": 50, "learning_rate": 2.5e-5, "end_learning_rate": 2.5e-6}),
        ("rt1", {"bins": 256, "window": 6, "bin_rule": "rt1"}),
        ("smolvla", {"clip_norm": 10.0, "steps": 20000}),
        ("rdt", {"prediction": "sample", "inference_steps": 5, "chunk": 64}),
        ("groot_n17", {"inference_steps": 4, "flow_target": "action_minus_noise", "chunk": 40}),
    ],
)
def test_values(key, values):
    card = facts.load(key)
    assert {field: card.value(field) for field in values} == values


def test_where_paper_and_code_differ():
    assert facts.load("act").facts["form"].paper[0] == ["mse"]
    assert facts.load("openvla").facts["bin_centres"].paper[0] == 256
    assert facts.load("pi0").facts["flow_target"].paper[0] == "action_minus_noise"


@pytest.mark.parametrize("name", ["OpenVLA", "openvla", "Open-VLA", "pi0.5", "PI05", "OpenVLA-OFT"])
def test_names_in_any_spelling(name):
    assert facts.load(name).key in ("openvla", "pi05", "openvla_oft")


def test_an_unknown_card_lists_the_known_ones():
    with pytest.raises(InputError, match="diffusion_policy"):
        facts.load("zorbo")


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (lambda card: card["facts"]["bins"].pop("source"), "bins needs value, basis and source"),
        (lambda card: card["facts"]["bins"].update(source=""), "bins has no source"),
        (lambda card: card["facts"]["bins"].update(value="256"), "bins: '256'"),
        (lambda card: card["facts"]["bins"].update(value=True), "bins: True"),
        (lambda card: card["facts"]["form"].update(value=["crossentropy"]), "form:"),
        (lambda card: card["facts"]["bins"].update(basis="memory"), "basis 'memory'"),
        (lambda card: card["facts"]["bins"].update(comment="x"), "unknown keys"),
        (
            lambda card: card["facts"].update(colour={"value": 1, "basis": "code", "source": "x.py"}),
            "colour is no field",
        ),
        (lambda card: card["facts"].pop("family"), "family is missing"),
        (
            lambda card: card["facts"]["bin_centres"].update(paper={"value": 256}),
            "paper needs value and source",
        ),
        (lambda card: card.pop("code"), "code.repository is missing"),
    ],
)
def test_a_card_that_breaks_the_schema_is_refused(breaks, words):
    card = copy.deepcopy(raw("openvla"))
    breaks(card)
    with pytest.raises(InputError, match="schema") as caught:
        facts.parse(card)
    assert words in str(caught.value)


def test_every_field_is_used_by_a_card():
    used = {field for key in KEYS for field in facts.load(key).facts}
    assert used <= set(facts.FIELDS)
    assert not set(facts.FIELDS) - used
