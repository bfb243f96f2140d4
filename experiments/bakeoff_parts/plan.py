"""What the bake-off compares: five models, two data sets, six ways to ask a model for an action.

Nothing heavy is imported here, so that `--help` answers at once.
"""

from typing import NamedTuple

SETS = ("unimodal", "bimodal")
MODELS = ("ddpm", "denoising", "flow", "ce", "mse")
TITLES = {"ce": "CE", "mse": "MSE", "denoising": "denoising", "ddpm": "DDPM", "flow": "flow"}
ROWS = 50  # of every curve: one per epoch with the chapter's settings
SAMPLING_STEPS = 20
BATCH = 64
SHOWN, DRAWN = 20, 10  # observations and predictions in the picture


class Item(NamedTuple):
    """One training run: a key of `SETS` and one of `MODELS`."""

    data: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.data}-{self.model}"


class Predictor(NamedTuple):
    """A way to get an action out of a model.

    Attributes:
      name: for tables and pictures.
      model: one of `MODELS`.
      sampled: whether it is given a key.
    """

    name: str
    model: str
    sampled: bool


class Settings(NamedTuple):
    """What decides every number of the bake-off.

    Attributes:
      pairs: of training data in each set.
      seed: of data, parameters, order and noise.
      observations: held-out ones that are scored.
      predictions: of each way to predict, for each of them.
      smoke: a few steps of everything.
    """

    pairs: int
    seed: int
    observations: int
    predictions: int
    smoke: bool


PREDICTORS = (
    Predictor("CE argmax", "ce", False),
    Predictor("MSE", "mse", False),
    Predictor("CE sampled", "ce", True),
    Predictor("denoising", "denoising", True),
    Predictor("DDPM", "ddpm", True),
    Predictor("flow", "flow", True),
)
TRUTH = "the demonstrators"
# The dearest first, as the last to start should be short; and no model on both sets at once, so that the
# second finds compiled what the first has compiled.
ITEMS = tuple(
    Item(*words.split())
    for words in (
        *("unimodal ddpm", "bimodal denoising", "bimodal ddpm", "unimodal denoising", "unimodal flow"),
        *("bimodal ce", "bimodal flow", "unimodal ce", "unimodal mse", "bimodal mse"),
    )
)


def steps_of(settings: Settings) -> int:
    """Updates of every run: 50 epochs of the chapter's 10,000 pairs, one of a million, in between as many
    samples; a multiple of `ROWS`, so that a run is so many dispatches of one length.

    >>> steps_of(Settings(10_000, 0, 1, 1, False)), steps_of(Settings(1_000_000, 0, 1, 1, False))
    (7800, 15600)
    """
    if settings.smoke:
        return ROWS
    epochs = min(50, max(1, round(1_000_000 / settings.pairs)))
    return max(1, epochs * (settings.pairs // BATCH) // ROWS) * ROWS
