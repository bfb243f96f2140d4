"""The words for losses: four tables of patterns, each with the form it names and how plainly it says so.

Names of losses and of learning algorithms are words here ("cross-entropy", "TD3", "DDPM"); names of robot
policies are not, and a text is read the same whatever its system is called.
"""

from ch3_jax.cards import terms_family, terms_given, terms_made, terms_scored
from ch3_jax.cards.terms import FAMILY_OF, Term

__all__ = ["FAMILY_OF", "IMPLIED", "TERMS", "Term", "present"]

TERMS: tuple[Term, ...] = (*terms_given.TERMS, *terms_made.TERMS, *terms_scored.TERMS, *terms_family.TERMS)

# A form can only be named in a sentence that holds one of its stems, which are cheap to look for.
_STEMS = {
    "cross_entropy": ("entropy", "token", "language", "autoregress", "classif", "softmax", "teacher", "ce"),
    "bce": ("binary", "bce"),
    "focal": ("focal",),
    "offset": ("offset", "multi"),
    "mse": ("mse", "squared", "l2", "l_2", "ℓ", "least", "^"),
    "l1": ("l1", "ℓ", "l_", "absolute"),
    "huber": ("huber", "smooth"),
    "nll": ("likelihood", "probability", "log", "nll", "mixture", "gmm"),
    "cvae": ("vae", "variational", "elbo", "evidence"),
    "distillation": ("distill", "teacher", "student"),
    "weighted_bc": ("weighted",),
    "flow_matching": (
        "flow",
        "noise",
        "x0",
        "x_0",
        "eps",
        "velocit",
        "vector",
        "euler",
        "integrat",
        "mse_loss",
        "mseloss",
        "l2_loss",
    ),
    "epsilon_mse": ("noise", "eps", "ε"),
    "x0_mse": (
        "clean",
        "free",
        "uncorrupt",
        "original",
        "un-noised",
        "unnoised",
        "denoised",
        "x0",
        "x_0",
        "x-0",
        "sample",
    ),
    "v_mse": ("prediction",),
    "diffusion_unspecified": ("diffus", "denois", "ddpm", "ddim"),
    "score_matching": ("score", "edm", "karras", "continuous-time"),
    "consistency": ("consistency",),
    "contrastive": ("contrastive", "infonce", "nt-xent", "triplet"),
    "vq": ("vq", "quanti", "codebook", "commitment"),
    "jepa": ("embedding", "jepa", "latent", "feature", "representation"),
    "masked_cross_entropy": ("mask", "discrete diffusion", "bert", "absorbing"),
    "reconstruction": ("reconstruct", "masked"),
    "ppo": ("ppo", "proximal", "clip", "clamp", "surrogate", "kl"),
    "grpo": ("grpo", "relative"),
    "reinforce": ("pg_", "policy", "reinforce", "rloo", "trpo", "score", "leave", "log"),
    "sac": ("log_p", "logp", "sac", "soft", "maximum"),
    "td": (
        "td",
        "gamma",
        "γ",
        "discount",
        "temporal",
        "bellman",
        "q",
        "twin",
        "sarsa",
        "ddpg",
        "d4pg",
        "target policy",
        "deterministic",
        "delayed",
    ),
    "q_learning": ("q",),
    "cql": ("conservative", "cql", "action-value", "q-value", "cal-ql"),
    "expectile": ("expectile", "iql", "implicit"),
    "awr": ("advantage", "critic", "awr", "awac", "crr"),
    "bc_term": ("clon", "bc"),
    "adversarial": ("adversar", "discriminator", "gail", "amp"),
    "actor_critic": ("actor", "value"),
    "mmd": ("discrepancy", "mmd"),
    "preference": ("preference", "dpo"),
    "": (
        "-policy",
        "dagger",
        "aggregation",
        "airl",
        "strateg",
        "search",
        "estimation",
        "bootstrap",
        "imagin",
        "learn",
        "reinforc",
        "rl",
        "q",
        "critic",
        "advantage",
        "value",
        "return",
        "replay",
        "reward",
        "clon",
        "imitat",
        "supervis",
        "regress",
        "target",
        "bc",
        "sft",
        "polic",
    ),
}


def present(sentence: str) -> list[Term]:
    """The terms that could occur in a sentence, by their stems."""
    low = sentence.lower()
    forms = {form for form, stems in _STEMS.items() if any(stem in low for stem in stems)}
    return [term for term in TERMS if term.form in forms]


# A form that says more than another takes its place.
IMPLIED = {
    "flow_matching": ("mse", "diffusion_unspecified", "l1"),
    "epsilon_mse": ("mse", "diffusion_unspecified"),
    "x0_mse": ("mse", "diffusion_unspecified"),
    "v_mse": ("mse", "diffusion_unspecified"),
    "score_matching": ("mse", "diffusion_unspecified"),
    "consistency": ("mse", "diffusion_unspecified", "distillation"),
    "diffusion_unspecified": ("mse",),
    "masked_cross_entropy": ("cross_entropy", "diffusion_unspecified"),
    "focal": ("cross_entropy", "nll"),
    "bce": (),
    "huber": ("l1",),
    "nll": (),
    "vq": ("reconstruction",),
    "ppo": ("actor_critic", "reinforce"),
    "grpo": ("reinforce", "ppo"),
    "sac": ("actor_critic", "q_learning"),
    "td": ("actor_critic", "q_learning", "mse", "l1", "huber"),
    "q_learning": ("actor_critic",),
    "cql": ("td", "q_learning", "actor_critic"),
    "awr": ("actor_critic", "weighted_bc"),
    "expectile": ("mse",),
    "adversarial": ("bce",),
}
