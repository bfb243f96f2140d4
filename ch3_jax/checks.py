"""Contracts at the door: what an argument must look like, said in words that name it.

Most wrong numbers in policy training are a silent broadcast: [B] against [B, 1] gives [B, B] and
a plausible loss. Every public function therefore begins with a line from this file. The checks
look at shapes and dtypes only, so they run while JAX traces and cost nothing in the compiled step.
"""

import chex
import jax.numpy as jnp

from ch3_jax.base import Array

ALPHABET = {
    "B": "batch",
    "T": "time",
    "W": "window of observations",
    "H": "action horizon",
    "S": "state dimension",
    "A": "action dimension",
    "J": "joints",
    "K": "bins",
    "M": "components of a mixture",
    "V": "vocabulary",
    "D": "width",
    "Z": "dimension of a latent",
    "C": "critics",
    "G": "episodes of a group",
    "N": "steps of the data set",
    "...": "any leading axes, the same everywhere",
}


def shapes(fix: str = "reshape the argument, broadcasting is never implicit here", **arguments: tuple):
    """Checks that arguments agree with their letters, each letter meaning one size throughout.

    Args:
      fix: the usual repair, for the message.
      **arguments: name = (array, "B A K"); "..." first stands for any leading axes, which must
        then be the same in every argument that has them.

    Raises:
      ValueError: names the argument, its shape, what was expected and what each letter means.

    >>> import jax.numpy as jnp
    >>> shapes(logits=(jnp.zeros((4, 7, 256)), "B A K"), target=(jnp.zeros((4, 7)), "B A"))
    """
    sizes: dict[str, object] = {}
    for name, (array, letters) in arguments.items():
        got = tuple(jnp.shape(array))
        rest = letters.split()
        if rest[:1] == ["..."]:
            rest = rest[1:]
            cut = len(got) - len(rest)
            leading = sizes.setdefault("...", got[: max(cut, 0)])
            expected = (*leading, *(sizes.get(letter) for letter in rest))
        else:
            expected = tuple(sizes.get(letter) for letter in rest)
        try:
            chex.assert_shape(array, expected)
        except AssertionError:
            meaning = ", ".join(f"{letter} {ALPHABET.get(letter, '')}".strip() for letter in letters.split())
            wanted = ", ".join("any" if size is None else str(size) for size in expected)
            raise ValueError(
                f"`{name}` has shape {got}, expected ({letters.replace(' ', ', ')}) = ({wanted}); "
                f"{meaning}. Usual fix: {fix}."
            ) from None
        sizes.update(zip(rest, got[len(got) - len(rest) :], strict=True))


def floating(**arguments: Array) -> None:
    """Checks that arguments are floating point: integer predictions round every gradient away."""
    _kind(float, "floating point", "x.astype(jnp.float32)", arguments)


def integer(**arguments: Array) -> None:
    """Checks that arguments are integers: class indices, tokens, steps."""
    _kind(int, "integer", "x.astype(jnp.int32), or encode actions into bins first", arguments)


def _kind(kind: type, word: str, fix: str, arguments: dict[str, Array]) -> None:
    for name, array in arguments.items():
        try:
            chex.assert_type(array, kind)
        except AssertionError:
            got = jnp.asarray(array).dtype
            raise TypeError(f"`{name}` has dtype {got}, expected {word}. Usual fix: {fix}.") from None
