"""One shape for every refusal: what was got, what was expected, the likely cause, the next step.

A person who feeds the library something that it cannot use gets one screen that they can act on.
Library code raises `InputError`; an experiment's `main` prints it and exits with code 2, and a
caller from Python can catch it as the `ValueError` that it is.
"""

_LONGEST = 400


class InputError(ValueError):
    """Something from outside (a path, a flag, a file's content) cannot be used.

    Args:
      problem: one sentence that names the thing and what is wrong with it.
      got: what was found.
      expected: what would have been accepted.
      cause: the usual reason.
      fix: what to do next, a command where there is one.
    """

    def __init__(self, problem: str, *, got: object, expected: object, cause: str, fix: str):
        self.problem, self.got, self.expected = problem, got, expected
        self.cause, self.fix = cause, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        rows = (
            ("got", self.got),
            ("expected", self.expected),
            ("likely cause", self.cause),
            ("next step", self.fix),
        )
        return "\n".join([self.problem, *(f"  {name + ':':<14}{_short(text)}" for name, text in rows)])


def _short(value: object) -> str:
    """`value` in printable characters, cut so that the whole message stays on one screen."""
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 4] + " ..."
