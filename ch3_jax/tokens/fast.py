r"""FAST: a chunk of actions as a few tokens, by the cosine transform and byte-pair encoding.

Neighbouring actions are nearly equal, so bins (`ch3_jax.tokens.bins`) spend a token on every repetition. FAST
takes the repetition out first. A chunk x of H actions in A dimensions becomes

  c[k, a] = round(scale \sum_t C[k, t] x[t, a])
  C[k, t] = \sqrt{(2 - 1[k = 0]) / H} \cos(\pi k (2t + 1) / 2H)

(the orthonormal DCT-II), most of it zero for smooth motion. The integers are written out row by row: the
lowest frequency of every dimension first, then the next, and the zeros of the high frequencies are a long run
at the end. Byte-pair encoding then gives one token to what occurs often together, that run for instance.

The transform keeps lengths (Parseval), and rounding moves a coefficient by half a step at most, so that

  \sqrt{mean (x - x')^2} <= 1 / (2 scale)    and    |x - x'| <= \sqrt{H} / (2 scale)

for the decoded chunk x': 0.05 of the normalised action in the mean at the published scale of 10. Normalise
before, by quantiles to [-1, 1].

**Not the ids of FAST+.** The published tokenizer (physical-intelligence/fast) was fitted to a million chunks
of many robots, and its merges cannot be had from other data. Two more things differ on purpose. It codes the
coefficients as text in bytes, where GPT-2's pattern for words forbids merges across what happens to be a
space, a digit or a letter: here a coefficient is one symbol, and any two may merge. And it decodes what
cannot be decoded to zeros, which the robot executes: here `decode` says which chunks are valid.

References:
  Pertsch et al. 2025, FAST, arXiv:2501.09747, algorithm 1. Ahmed et al. 1974, Discrete cosine transform.
  Physical-Intelligence/openpi, src/openpi/models/tokenizer.py (the place in the vocabulary).
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ch3_jax.errors import InputError

OUTSIDE = ("raise", "clip")
_FIRST = 0x10000  # symbols are code points from here on, where no surrogates are
_MOST = 2**20  # such code points


@dataclasses.dataclass(frozen=True)
class Fast:
    """A fitted tokenizer: plain numbers, equal if they tokenise equally.

    Attributes:
      horizon: H, actions of a chunk.
      dims: A, action dimensions.
      scale: steps of a coefficient per unit of the action.
      low, high: the coefficients that have a token of their own, low + i being token i.
      merges: pairs of tokens, in order; each makes the next token, unless an earlier one made the same.
    """

    horizon: int
    dims: int
    scale: float
    low: int
    high: int
    merges: tuple[tuple[int, int], ...]

    @property
    def vocabulary(self) -> int:
        """V: tokens are 0 to V - 1."""
        return len(_pieces(self))


def fit(chunks: np.ndarray, vocab_size: int = 1024, scale: float = 10.0) -> Fast:
    """Learns which coefficients occur together.

    Args:
      chunks: (N, H, A) finite, normalised to about [-1, 1]. All training chunks or some thousands of them:
        coefficients larger than any in here have no token.
      vocab_size: V at most; fewer where nothing is left that occurs twice.
      scale: above 0; 10 as published.

    Returns:
      `Fast`, the same for the same chunks.

    Raises:
      ValueError: not (N, H, A), no chunk, a value that is not finite, a scale of 0 or less, more different
        coefficients than tokens, the package `tokenizers` missing.

    >>> time = np.linspace(0, 1, 16)[None, :, None]
    >>> chunks = np.sin(time * np.linspace(1, 3, 50)[:, None, None]) * np.ones(2)
    >>> fast = fit(chunks, vocab_size=256)
    >>> tokens = encode(fast, chunks[:1])
    >>> len(tokens[0]) < 16 * 2 / 4
    True
    >>> actions, ok = decode(fast, tokens)
    >>> bool(ok[0]), bool(np.sqrt(np.mean((actions - chunks[:1]) ** 2)) < 0.05)
    (True, True)
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
        raise InputError(
            "`scale` is no size of a step",
            got=repr(scale),
            expected="a number above 0: steps of a coefficient per unit of the action",
            cause="a precision given as text, or a step rounded to 0",
            fix="scale=10, as published, for actions normalised to [-1, 1]",
        )
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int):
        raise TypeError(f"`vocab_size` is {vocab_size!r}, expected an integer.")
    chunks = _chunks(chunks, "N", None, None)
    coefficients = _coefficients(chunks, float(scale))
    low, high = int(coefficients.min()), int(coefficients.max())
    if high - low + 1 > min(vocab_size, _MOST):
        raise InputError(
            "the coefficients need more tokens than there are",
            got=f"{low} to {high}, {high - low + 1} values, with vocab_size={vocab_size} and scale={scale:g}",
            expected=f"at most {vocab_size} different values, and fewer to leave tokens for merges",
            cause="actions that were not normalised, or a few outliers among them",
            fix="normalise to quantiles first (clipping), or a smaller scale, or a larger vocab_size",
        )
    unmerged = Fast(chunks.shape[1], chunks.shape[2], float(scale), low, high, ())
    return dataclasses.replace(unmerged, merges=_learn(unmerged, coefficients, vocab_size))


def encode(fast: Fast, chunks: np.ndarray, *, outside: str = "raise") -> list[np.ndarray]:
    """Tokens of chunks, as many as each needs.

    Args:
      fast: from `fit` or `from_json`.
      chunks: (B, H, A) finite, normalised as those of `fit`.
      outside: of a coefficient beyond those of `fit`: "raise", or "clip" it to the nearest one that has a
        token (the published code clips below, and above writes characters that its vocabulary lacks).

    Returns:
      B arrays of int32 in [0, V).

    Raises:
      ValueError: another shape, a value that is not finite, an unknown rule, a coefficient without a token,
        the package `tokenizers` missing.
    """
    if outside not in OUTSIDE:
        raise InputError(
            "`outside` is no rule for coefficients without a token",
            got=repr(outside),
            expected=" or ".join(map(repr, OUTSIDE)),
            cause="a misspelled name",
            fix="outside='raise' to hear of them, 'clip' to bend them",
        )
    coefficients = _coefficients(_chunks(chunks, "B", fast.horizon, fast.dims), fast.scale)
    beyond = (coefficients < fast.low) | (coefficients > fast.high)
    if outside == "raise" and beyond.any():
        chunk, k, a = np.argwhere(beyond)[0]
        raise InputError(
            f"a coefficient of `chunks` has no token: chunk {chunk}, frequency {k}, dimension {a}",
            got=f"{coefficients[chunk, k, a]}, and {int(beyond.sum())} such coefficients in all",
            expected=f"{fast.low} to {fast.high}, what `fit` saw",
            cause="a larger motion than any in the chunks of `fit`, or another normalisation",
            fix="fit to all training chunks, clip normalised actions, or outside='clip'",
        )
    text = _text(fast, np.clip(coefficients, fast.low, fast.high))
    return [np.asarray(one.ids, np.int32) for one in _tokenizer(fast).encode_batch(text)]


def decode(fast: Fast, tokens: Sequence[Sequence[int] | np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Chunks of tokens, and which of them are chunks at all.

    A network may write anything. What is not exactly H A coefficients is no chunk: its actions are NaN and
    its `ok` is False, so that nobody executes them unasked; hold still, or ask the network again.

    Args:
      fast: from `fit` or `from_json`.
      tokens: B sequences of integers, without markers of a beginning or an end.

    Returns:
      actions: (B, H, A) float32, NaN where not ok.
      ok: (B,) bool.

    Raises:
      TypeError: tokens that are not integers, one sequence instead of a list of them.

    >>> fast = Fast(horizon=2, dims=1, scale=10.0, low=-1, high=1, merges=((1, 1),))
    >>> actions, ok = decode(fast, [[3], [2, 0], [2], [9]])
    >>> ok.tolist()
    [True, True, False, False]
    >>> [round(float(x), 4) for x in actions[1].ravel()], bool(np.isnan(actions[2:]).all())
    ([0.0, 0.1414], True)
    """
    pieces = _pieces(fast)
    size = fast.horizon * fast.dims
    coefficients = np.full((len(tokens), size), np.nan)
    for row, sequence in zip(coefficients, tokens, strict=True):
        ids = np.asarray(sequence)
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise TypeError(
                f"`tokens` holds {ids.dtype} of shape {ids.shape}, expected sequences of integers, one per "
                "chunk. Usual fix: [tokens] for a single chunk."
            )
        if not ids.size or ids.min() < 0 or ids.max() >= len(pieces):
            continue
        values = [value for token in ids.tolist() for value in pieces[token]]
        if len(values) == size:
            row[:] = values
    ok = ~np.isnan(coefficients).any(axis=1)
    spectrum = coefficients.reshape(len(tokens), fast.horizon, fast.dims) / fast.scale
    # The inverse of an orthonormal transform is its transpose.
    return np.einsum("kt,bka->bta", _basis(fast.horizon), spectrum).astype(np.float32), ok


def language_ids(tokens: np.ndarray, vocabulary: int = 257_152, reserved: int = 128) -> np.ndarray:
    """FAST tokens as words of a language model, and words as FAST tokens: V - 1 - reserved - token both ways.

    Args:
      tokens: integers from 0 to V - 1 - reserved.
      vocabulary: V, words of the language model; PaliGemma's by default.
      reserved: last words that stay as they are; openpi keeps 128 (PaliGemma's segmentation tokens).

    Raises:
      ValueError: a token outside. TypeError: not integers.

    >>> language_ids(np.array([0, 1023])).tolist()
    [257023, 256000]
    """
    tokens = np.asarray(tokens)
    if not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(f"`tokens` has dtype {tokens.dtype}, expected integers, as `encode` returns.")
    last = vocabulary - 1 - reserved
    if tokens.size and (tokens.min() < 0 or tokens.max() > last):
        raise InputError(
            "`tokens` lies outside of the vocabulary's part for actions",
            got=f"{tokens.min()} to {tokens.max()}",
            expected=f"0 to {last}",
            cause="markers of an end or the prompt's words among the action's",
            fix="cut the action's tokens out first",
        )
    return last - tokens


def to_json(fast: Fast) -> str:
    """A text that `from_json` reads, plain numbers: {"horizon": 16, ..., "merges": [[3, 3], ...]}."""
    return json.dumps(dataclasses.asdict(fast))


def from_json(text: str) -> Fast:
    """The tokenizer that `to_json` wrote.

    Raises:
      ValueError: not such a text; names what is missing or wrong.

    >>> fast = Fast(horizon=2, dims=1, scale=10.0, low=-1, high=1, merges=((1, 1),))
    >>> from_json(to_json(fast)) == fast
    True
    """
    try:
        read = json.loads(text)
        fast = Fast(**{**read, "merges": tuple((left, right) for left, right in read["merges"])})
    except (ValueError, TypeError, KeyError) as error:
        raise _unreadable(f"{type(error).__name__}: {error}") from None
    for name in ("horizon", "dims", "low", "high"):
        value = getattr(fast, name)
        if type(value) is not int or (name in ("horizon", "dims") and value < 1):
            raise _unreadable(f"{name} = {value!r}")
    if type(fast.scale) not in (int, float) or not 0 < fast.scale < float("inf") or fast.high < fast.low:
        raise _unreadable(f"scale = {fast.scale!r}, low = {fast.low}, high = {fast.high}")
    if fast.high - fast.low >= _MOST:
        raise _unreadable(f"coefficients from {fast.low} to {fast.high}, more than {_MOST}")
    _pieces(fast)
    return fast


def _unreadable(what: str) -> InputError:
    return InputError(
        "this text is no FAST tokenizer",
        got=what,
        expected='{"horizon", "dims", "scale", "low", "high", "merges"} as `to_json` writes them',
        cause="another file, or one that was cut; the published tokenizer has another format",
        fix="fit again and write it with to_json",
    )


def _chunks(chunks: np.ndarray, first: str, horizon: int | None, dims: int | None) -> np.ndarray:
    """(N, H, A) float64, or an error that says what is wrong."""
    chunks = np.asarray(chunks)
    inner = (horizon or chunks.shape[1], dims or chunks.shape[2]) if chunks.ndim == 3 else None
    if chunks.shape[1:] != inner or not chunks.size:
        raise InputError(
            "`chunks` has the wrong shape",
            got=chunks.shape,
            expected=f"({first}, H, A) with H = {horizon or 'any'}, A = {dims or 'any'}, at least one chunk",
            cause="one chunk without its first axis, or chunks of another horizon than those of `fit`",
            fix="chunks[None] for a single chunk",
        )
    chunks = chunks.astype(np.float64)
    if not np.isfinite(chunks).all():
        chunk, step, a = np.argwhere(~np.isfinite(chunks))[0]
        raise InputError(
            f"`chunks` is not finite in chunk {chunk}, step {step}, dimension {a}",
            got=chunks[chunk, step, a],
            expected="finite numbers, normalised to about [-1, 1]",
            cause="a division by a range of zero in the normalisation, or padding that is not a number",
            fix="repair the normalisation, leave such chunks out",
        )
    return chunks


@functools.lru_cache(maxsize=8)
def _basis(horizon: int) -> np.ndarray:
    """The orthonormal DCT-II, (H, H): frequencies by steps."""
    k, t = np.arange(horizon)[:, None], np.arange(horizon)
    basis = np.sqrt(2 / horizon) * np.cos(np.pi * k * (2 * t + 1) / (2 * horizon))
    basis[0] = np.sqrt(1 / horizon)
    basis.flags.writeable = False
    return basis


def _coefficients(chunks: np.ndarray, scale: float) -> np.ndarray:
    """(N, H, A) integers; halves go to the even neighbour, as in the published code."""
    spectrum = np.einsum("kt,nta->nka", _basis(chunks.shape[1]), chunks)
    return np.rint(spectrum * scale).astype(np.int64)


def _text(fast: Fast, coefficients: np.ndarray) -> list[str]:
    """One string per chunk, one symbol per coefficient, frequencies outside and dimensions inside."""
    points = (coefficients.reshape(len(coefficients), -1) - fast.low + _FIRST).astype("<u4")
    return [row.tobytes().decode("utf-32-le") for row in points]


def _learn(fast: Fast, coefficients: np.ndarray, vocab_size: int) -> tuple[tuple[int, int], ...]:
    tokenizers = _package()
    alphabet = _alphabet(fast)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=alphabet,
    )
    # Neither a normaliser nor a pattern for words: a chunk is one word.
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.train_from_iterator(_text(fast, coefficients), trainer=trainer)
    merges: list[tuple[int, int]] = []
    ids = {symbol: i for i, symbol in enumerate(alphabet)}
    for left, right in json.loads(tokenizer.to_str())["model"]["merges"]:
        merges.append((ids[left], ids[right]))
        ids.setdefault(left + right, len(ids))
    return tuple(merges)


def _alphabet(fast: Fast) -> list[str]:
    return [chr(_FIRST + i) for i in range(fast.high - fast.low + 1)]


@functools.lru_cache(maxsize=8)
def _pieces(fast: Fast) -> tuple[tuple[int, ...], ...]:
    """What each token stands for: coefficients in the order in which they are written."""
    pieces: dict[tuple[int, ...], int] = {
        (value,): i for i, value in enumerate(range(fast.low, fast.high + 1))
    }
    order = list(pieces)
    for i, pair in enumerate(fast.merges):
        # Only what `to_json` did not write can fail here; unchecked, a few lines of it would fill the memory.
        if not all(type(token) is int and 0 <= token < len(order) for token in pair):
            raise _unreadable(f"merge {i} of {pair}, which are no earlier tokens")
        merged = order[pair[0]] + order[pair[1]]
        if len(merged) > fast.horizon * fast.dims:
            raise _unreadable(f"merge {i}, longer than a chunk")
        if merged not in pieces:
            pieces[merged] = len(order)
            order.append(merged)
    return tuple(order)


@functools.lru_cache(maxsize=8)
def _tokenizer(fast: Fast) -> Any:
    tokenizers = _package()
    symbols = _alphabet(fast)
    words = ["".join(symbols[value - fast.low] for value in piece) for piece in _pieces(fast)]
    merges = [(words[left], words[right]) for left, right in fast.merges]
    model = tokenizers.models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges)
    return tokenizers.Tokenizer(model)


def _package() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise InputError(
            "FAST needs the package tokenizers to fit and to encode",
            got=str(error),
            expected="tokenizers 0.22 or newer",
            cause="the requirements are not installed",
            fix="pip install -r requirements.txt; decoding works without it",
        ) from error
    return tokenizers
