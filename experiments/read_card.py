"""Reads a model card, a paper or a configuration: loss, output, numbers, and what follows from them.

  python -m experiments.read_card README.md
  python -m experiments.read_card paper.pdf --backbone_ms=40 --head_ms=4 --control_hz=50
  python -m experiments.read_card openvla --against=runs/x
  cat config.yaml | python -m experiments.read_card - --json
  python -m experiments.read_card --score=passages.jsonl

Text, Markdown, HTML, PDF, a model card with its YAML, YAML, JSON or Python; or the name of a card of
`third_party/cards`. For each commitment it prints the value, how sure it is, and the words that say it with
line and column; what the text does not say is "not stated". Offline, deterministic, a page in milliseconds.

Exit code 0 even where nothing is stated (the page says why), 2 for what cannot be read.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import entry, shared_flags  # noqa: F401 - defines --out and --smoke

flags.DEFINE_string("file", None, "what is read: a file, - for the standard input, or a card's name")
# Other experiments print JSON too; whichever is imported first may define the flag.
flags.DEFINE_bool("json", False, "print one JSON object instead of the page", allow_override=True)
flags.DEFINE_string("against", None, "a run folder, a card's name or another file, to set beside it")
flags.DEFINE_string("score", None, "a JSON lines file of labelled passages, to be read and compared")
flags.DEFINE_float("backbone_ms", None, "time of one backbone pass", lower_bound=0, allow_override=True)
flags.DEFINE_float("head_ms", None, "time of one head call or token", lower_bound=0, allow_override=True)
flags.DEFINE_float("control_hz", None, "commands per second", lower_bound=1e-3, allow_override=True)
flags.DEFINE_list("range", None, "low,high[,unit] of an action dimension", allow_override=True)
flags.DEFINE_float("mode_distance", 1.0, "between two ways of doing it", lower_bound=0)
flags.DEFINE_integer("episode_steps", 500, "steps until the reward", lower_bound=1)
flags.DEFINE_integer("action_dims", None, "action dimensions, where the text does not say", lower_bound=1)

_SWITCHES = ("json", "smoke", "nojson", "nosmoke", "help", "helpfull", "helpshort")
EXAMPLE = (
    "An action expert is trained with flow matching and predicts chunks of 50 actions; at "
    "inference the flow is "
    "integrated in 10 Euler steps."
)


def main(argv: list[str]) -> int:
    """Reads, draws the consequences, compares, prints."""
    del argv
    from ch3_jax.errors import InputError
    from experiments import read_card_page, read_card_score, read_card_sources

    given = flags.FLAGS
    if given.score:
        print(read_card_score.page(given.score, as_json=given.json))
        return 0
    if not given.file and not given.smoke:
        raise InputError(
            "nothing to read",
            got="no file",
            expected="a file, - for the standard input, a card's name, or --score=passages.jsonl",
            cause="the command was given without one",
            fix="python -m experiments.read_card README.md",
        )
    source = (
        read_card_sources.example(EXAMPLE)
        if given.smoke and not given.file
        else read_card_sources.open_(given.file)
    )
    setup = read_card_sources.setup(given)
    other = read_card_sources.open_(given.against, runs=True) if given.against else None
    text = (
        json.dumps(read_card_page.as_json(source, setup, other), indent=2, ensure_ascii=False)
        if given.json
        else read_card_page.page(source, setup, other)
    )
    print(text)
    if given.out:
        folder = Path(given.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ("reading.json" if given.json else "reading.txt")).write_text(text + "\n")
    return 0


def with_file(argv: Sequence[str]) -> list[str]:
    """The command line with its one bare word as `--file`.

    Example:
      >>> with_file(["read_card", "--json", "README.md", "--against", "openvla"])
      ['read_card', '--json', '--file=README.md', '--against', 'openvla']
    """
    out, waits = [argv[0]], False
    for word in argv[1:]:
        bare = word == "-" or not word.startswith("-")
        if bare and not waits and not any(w.startswith("--file=") for w in out):
            word = f"--file={word}"
        waits = word.startswith("-") and "=" not in word and word.lstrip("-") not in _SWITCHES
        out.append(word)
    return out


if __name__ == "__main__":
    entry.run(main, argv=with_file(sys.argv))
