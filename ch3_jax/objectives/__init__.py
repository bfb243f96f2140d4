"""Where a network meets a loss: the one room that sees both.

An objective is what the training loop needs and no more: how to make parameters, how to score a batch,
how to act. A new loss is a new function here and a name in `OBJECTIVES`; a new network is a
`Policy` handed to one of them.

| file | losses |
| --- | --- |
| `supervised` | ce, mse, l1, huber |
| `likelihood` | gmm, cvae |
| `generative` | denoising, ddpm, flow |
| `distilled` | consistency |
| `contrastive` | infonce |
"""

from ch3_jax.objectives.objective import Objective as Objective
from ch3_jax.objectives.objective import Shapes as Shapes
from ch3_jax.objectives.objective import Spread as Spread
from ch3_jax.objectives.objective import spread as spread
from ch3_jax.objectives.registry import OBJECTIVES as OBJECTIVES
from ch3_jax.objectives.registry import make_objective as make_objective
from ch3_jax.objectives.registry import options_of as options_of
