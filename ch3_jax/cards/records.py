"""What a reading is made of: values, how sure they are, and the words that say them.

A reading never holds a bare value. Each one comes as `Found(value, confidence, evidence)`, and `evidence`
points back into the text that was given: offset, line and column. What the text does not say is None, and a
page prints it as "not stated".
"""

from typing import Any, NamedTuple

FAMILIES = ("supervised", "reinforcement", "self_supervised", "unknown")

# Every form that a reading can name, with the words for it on a page.
FORMS = {
    "cross_entropy": "cross-entropy",
    "masked_cross_entropy": "masked-token cross-entropy (discrete diffusion)",
    "focal": "focal loss",
    "offset": "offset regression beside a class",
    "bce": "binary cross-entropy",
    "mse": "mean squared error",
    "l1": "mean absolute error (L1)",
    "huber": "Huber / smooth L1",
    "nll": "negative log-likelihood",
    "cvae": "conditional VAE",
    "distillation": "distillation from a teacher",
    "weighted_bc": "weighted behaviour cloning",
    "flow_matching": "flow matching (velocity error)",
    "epsilon_mse": "noise prediction (epsilon error)",
    "x0_mse": "clean-sample prediction (x0 error)",
    "v_mse": "v-prediction error",
    "diffusion_unspecified": "diffusion, prediction not stated",
    "score_matching": "denoising score matching",
    "consistency": "consistency training",
    "contrastive": "contrastive",
    "vq": "vector quantisation",
    "reconstruction": "reconstruction",
    "jepa": "prediction of embeddings",
    "ppo": "clipped policy gradient (PPO)",
    "grpo": "group-relative policy gradient (GRPO)",
    "reinforce": "policy gradient",
    "actor_critic": "actor-critic",
    "sac": "soft actor-critic",
    "td": "temporal difference (Bellman error)",
    "q_learning": "Q-learning",
    "cql": "conservative Q-learning",
    "expectile": "expectile value regression",
    "awr": "advantage-weighted regression",
    "bc_term": "behaviour-cloning term",
    "adversarial": "adversarial (discriminator)",
    "mmd": "maximum mean discrepancy",
    "preference": "preference optimisation",
}

OUTPUTS = {
    "continuous": "continuous, one action",
    "chunk": "continuous, a chunk of actions",
    "denoised": "denoised from noise",
    "denoised_chunk": "a chunk, denoised from noise",
    "tokens": "discrete tokens",
    "tokens+offset": "a discrete class and an offset",
    "latent": "latent or learned code",
}

ROLES = ("main", "auxiliary", "component", "option", "earlier_stage")


class Evidence(NamedTuple):
    """The words that say it, and where they stand.

    Attributes:
      words: as written in the text, on one line.
      start: offset of the first character in the text, from 0.
      end: offset behind the last one.
      line: from 1.
      column: from 1.
    """

    words: str
    start: int
    end: int
    line: int
    column: int


class Found(NamedTuple):
    """One value that the text states.

    Attributes:
      value: a number, or a word of the vocabulary.
      confidence: 0 to 1; 0.9 and more where the loss or key is named, about 0.5 where it is implied.
      evidence: where it is said.
    """

    value: Any
    confidence: float
    evidence: Evidence


class Form(NamedTuple):
    """One loss that the text names.

    Attributes:
      value: a key of `FORMS`.
      role: "main" trains the policy; "auxiliary" is added to the main loss; "component" trains a part such as
        a
        reward model; "option" is one of several that are offered; "earlier_stage" came before the last stage.
      confidence: 0 to 1.
      evidence: where it is said.
      of: the part that it trains, or the loss that it is beside; "" for the policy.
    """

    value: str
    role: str
    confidence: float
    evidence: Evidence
    of: str = ""


class SetAside(NamedTuple):
    """Words that name a loss and were not counted, with the reason: negated, another's, a metric ..."""

    value: str
    reason: str
    evidence: Evidence


class Reading(NamedTuple):
    """What a text commits itself to.

    Attributes:
      family: one of `FAMILIES`; value "unknown" where nothing decides it.
      reason: one sentence: why this family, or why none.
      forms: every loss that counts, the main ones first.
      output: a key of `OUTPUTS`.
      settings: name -> Found, for the names of `ch3_jax.cards.reader.NAMES`: bins, chunk, steps,
        the optimizer's ... A name that is missing is not stated.
      set_aside: losses that are mentioned without being used.
      notes: sentences about the text itself: another language, several documents, only a part was read.
    """

    family: Found
    reason: str
    forms: tuple[Form, ...] = ()
    output: Found | None = None
    settings: dict[str, Found] = {}
    set_aside: tuple[SetAside, ...] = ()
    notes: tuple[str, ...] = ()

    def forms_as(self, *roles: str) -> tuple[str, ...]:
        """Values of the forms that have one of these roles, without repeats."""
        return tuple(dict.fromkeys(form.value for form in self.forms if form.role in roles))

    def labels(self) -> dict[str, Any]:
        """The reading as one flat record: plain values, None or [] for what is not stated.

        Options and component losses stand under `form` only where no main form is stated.
        """
        form = self.forms_as("main") or self.forms_as("option") or self.forms_as("component")
        beside = [f"{form.of} {form.value}".strip() for form in self.forms if form.role == "auxiliary"]
        value = {name: found.value for name, found in self.settings.items()}
        return {
            "family": self.family.value,
            "form": list(form),
            "output": self.output.value if self.output else None,
            "bins": value.get("bins"),
            "chunk": value.get("chunk"),
            "schedule": value.get("schedule"),
            "inference_steps": value.get("inference_steps"),
            "auxiliary": list(dict.fromkeys(beside)),
        }
