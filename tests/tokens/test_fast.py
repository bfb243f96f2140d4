"""FAST against scipy's transform, a byte-pair encoder of ten lines, and its own error bounds."""

import json
import sys

import numpy as np
import pytest
import scipy.fft

from ch3_jax.tokens import bins, fast
from ch3_jax.tokens.fast import Fast

H, A = 16, 3
RNG = np.random.default_rng(0)
TIME = np.linspace(0, 1, H)


def smooth(count, seed=0):
    """Sums of four slow cosines per dimension: what a robot does."""
    rng = np.random.default_rng(seed)
    waves = np.cos(np.pi * np.arange(4)[:, None] * TIME)
    weight = rng.normal(size=(count, 4, A)) / (1 + np.arange(4))[:, None] ** 2
    return np.clip(0.4 * np.einsum("nka,kt->nta", weight, waves), -1, 1)


CHUNKS = smooth(300)
FITTED = fast.fit(CHUNKS, vocab_size=300)


def published_coefficients(chunks, scale=10.0):
    """As the published tokenizer computes them, with scipy."""
    return np.around(scipy.fft.dct(chunks, axis=1, norm="ortho") * scale).astype(int)


def test_by_hand():
    # H = 2: c_0 = (x_0 + x_1) / sqrt 2, c_1 = (x_0 - x_1) / sqrt 2, times 10.
    # Dimension 0, (1, 0): 7.07, 7.07 -> 7, 7. Dimension 1, (-.5, -.5): -7.07, 0 -> -7, 0.
    # Frequency 0 of both dimensions comes first: 7 -7 7 0, and token 0 is the lowest coefficient, -7.
    tokenizer = Fast(horizon=2, dims=2, scale=10.0, low=-7, high=7, merges=())
    chunk = np.array([[[1.0, -0.5], [0.0, -0.5]]])
    assert [t.tolist() for t in fast.encode(tokenizer, chunk)] == [[14, 0, 14, 7]]
    actions, ok = fast.decode(tokenizer, [[14, 0, 14, 7]])
    assert ok.tolist() == [True]
    # (7 + 7) / 10 / sqrt 2 = .98995, (7 - 7) = 0, (-7 + 0) / 10 / sqrt 2 = -.49497
    np.testing.assert_allclose(actions[0], [[0.98995, -0.49497], [0.0, -0.49497]], atol=1e-5)
    assert (actions.dtype, actions.shape) == (np.float32, (1, 2, 2))


@pytest.mark.parametrize("horizon", [1, 2, 5, 50])
def test_the_transform_is_scipys(horizon):
    chunks = RNG.normal(size=(20, horizon, 2))
    expected = published_coefficients(chunks)
    low, high = int(expected.min()), int(expected.max())
    tokens = fast.encode(Fast(horizon, 2, 10.0, low, high, ()), chunks)
    np.testing.assert_array_equal(np.stack(tokens) + low, expected.reshape(20, -1))
    actions, ok = fast.decode(Fast(horizon, 2, 10.0, low, high, ()), tokens)
    assert ok.all()
    np.testing.assert_allclose(actions, scipy.fft.idct(expected / 10, axis=1, norm="ortho"), atol=1e-6)


def merge_by_hand(symbols, merges, made):
    """Byte-pair encoding as it is defined: the earliest merge that applies, leftmost first."""
    tokens = list(symbols)
    rank = {pair: i for i, pair in reversed(list(enumerate(merges)))}
    while True:
        pairs = [
            (rank[pair], i) for i, pair in enumerate(zip(tokens, tokens[1:], strict=False)) if pair in rank
        ]
        if not pairs:
            return tokens
        best, i = min(pairs)
        tokens[i : i + 2] = [made[best]]


def made_by(tokenizer):
    """Which token each merge makes: the next one, or that which stands for the same coefficients already."""
    order = [(value,) for value in range(tokenizer.low, tokenizer.high + 1)]
    made = []
    for left, right in tokenizer.merges:
        piece = order[left] + order[right]
        if piece not in order:
            order.append(piece)
        made.append(order.index(piece))
    return made


def test_encode_is_byte_pair_encoding():
    unseen = smooth(25, seed=1)
    coefficients = published_coefficients(unseen).reshape(25, -1)
    coefficients = np.clip(coefficients, FITTED.low, FITTED.high) - FITTED.low
    made = made_by(FITTED)
    for tokens, symbols in zip(fast.encode(FITTED, unseen, outside="clip"), coefficients, strict=True):
        assert tokens.tolist() == merge_by_hand(symbols.tolist(), FITTED.merges, made)
        assert tokens.dtype == np.int32


def test_the_first_merge_is_the_commonest_pair():
    symbols = published_coefficients(CHUNKS).reshape(len(CHUNKS), -1) - FITTED.low
    # Zeros at the end outnumber all: the first merge is zero with zero.
    assert np.bincount(symbols.ravel()).argmax() == -FITTED.low
    assert FITTED.merges[0] == (-FITTED.low, -FITTED.low)


def test_a_merge_that_makes_an_old_token_makes_no_new_one():
    # Tokens 0 and 1; 00 is 2, 000 is 3 and would be again by the third merge; 11 is 4.
    tokenizer = Fast(3, 1, 10.0, 0, 1, ((0, 0), (2, 0), (0, 2), (1, 1)))
    assert tokenizer.vocabulary == 5
    actions, ok = fast.decode(tokenizer, [[3], [4, 1], [1, 2]])
    assert ok.all()
    assert [t.tolist() for t in fast.encode(tokenizer, actions)] == [[3], [4, 1], [1, 2]]


@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_the_round_trip_keeps_its_bounds(scale):
    # Noise has no zeros to win by, so the bound is tried hard; uniform rounding has rms 1 / (sqrt 12 scale).
    chunks = RNG.uniform(-1, 1, size=(200, H, A))
    tokenizer = fast.fit(chunks, vocab_size=2000, scale=scale)
    actions, ok = fast.decode(tokenizer, fast.encode(tokenizer, chunks))
    assert ok.all()
    error = actions - chunks
    rms = np.sqrt(np.mean(error**2, axis=(1, 2)))
    assert rms.max() <= 0.5 / scale
    assert np.abs(error).max() <= 0.5 * np.sqrt(H) / scale
    assert np.sqrt(np.mean(error**2)) == pytest.approx(1 / np.sqrt(12) / scale, rel=0.05)
    # Parseval: the error of the actions is that of the coefficients.
    spectrum = scipy.fft.dct(chunks, axis=1, norm="ortho")
    np.testing.assert_allclose(
        np.sum(error**2, axis=(1, 2)),
        np.sum((spectrum - np.around(spectrum * scale) / scale) ** 2, axis=(1, 2)),
        rtol=1e-4,
    )


def test_smooth_chunks_take_far_fewer_tokens_than_bins():
    unseen = smooth(200, seed=2)
    tokens = fast.encode(FITTED, unseen, outside="clip")
    naive = np.asarray(bins.encode(bins.octo(A), unseen))[0].size
    assert naive == H * A
    mean = np.mean([len(t) for t in tokens])
    # Measured: 7.4 of 48, and 30 on the noise below.
    assert mean < naive / 4
    noise = RNG.uniform(-1, 1, size=(200, H, A))
    on_noise = fast.encode(fast.fit(noise, vocab_size=300), noise)
    assert np.mean([len(t) for t in on_noise]) > naive / 2


def test_a_larger_vocabulary_takes_fewer_tokens():
    lengths = []
    for size in (FITTED.high - FITTED.low + 1, 150, 300):
        tokenizer = fast.fit(CHUNKS, vocab_size=size)
        assert tokenizer.vocabulary <= size
        tokens = fast.encode(tokenizer, CHUNKS)
        assert max(t.max() for t in tokens) < tokenizer.vocabulary
        lengths.append(sum(map(len, tokens)))
    assert lengths[0] == CHUNKS.size
    assert lengths[0] > lengths[1] > lengths[2]


def test_what_is_no_chunk_is_nan_and_never_zero():
    good = fast.encode(FITTED, CHUNKS[:1])[0]
    zero = -FITTED.low
    tokens = [
        good,
        good[:-1],  # too short: greedy decoding that stopped early
        np.append(good, zero),  # too long
        [],
        [FITTED.vocabulary],  # an end marker
        [*good[:-1], -1],
        [zero] * (H * A),  # zeros that were really said: no merge, and a chunk all the same
    ]
    actions, ok = fast.decode(FITTED, tokens)
    assert ok.tolist() == [True, False, False, False, False, False, True]
    assert actions.shape == (7, H, A)
    assert np.isnan(actions[1:6]).all()
    assert np.isfinite(actions[[0, 6]]).all()
    np.testing.assert_array_equal(actions[6], 0)
    np.testing.assert_allclose(actions[0], CHUNKS[0], atol=0.5 * np.sqrt(H) / 10)
    none, ok = fast.decode(FITTED, [])
    assert (none.shape, ok.shape) == ((0, H, A), (0,))


def test_fitting_again_gives_the_same():
    assert fast.fit(CHUNKS, vocab_size=300) == FITTED
    assert fast.fit(CHUNKS.astype(np.float32)[::-1], vocab_size=300).low == FITTED.low


def test_json_is_plain_and_reads_back():
    text = fast.to_json(FITTED)
    read = fast.from_json(text)
    assert read == FITTED
    assert set(json.loads(text)) == {"horizon", "dims", "scale", "low", "high", "merges"}
    for ours, theirs in zip(fast.encode(FITTED, CHUNKS[:9]), fast.encode(read, CHUNKS[:9]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"horizon": 0}, "horizon = 0"),
        ({"dims": 2.5}, "dims = 2.5"),
        ({"scale": 0}, "scale = 0"),
        ({"high": -99}, "high = -99"),
        ({"high": 2**21}, "more than 1048576"),
        ({"merges": [[0, 10**6]]}, "merge 0 of"),
        ({"merges": [[0, -1]]}, "merge 0 of"),
        ({"merges": [[0, 0, 0]]}, "too many values"),
        (
            {"merges": [[0, 0], *([FITTED.high - FITTED.low + 1 + i] * 2 for i in range(60))]},
            "longer than a chunk",
        ),
        ({"colour": 1}, "unexpected keyword"),
    ],
)
def test_another_file_is_no_tokenizer(change, words):
    with pytest.raises(ValueError, match=words) as caught:
        fast.from_json(json.dumps({**json.loads(fast.to_json(FITTED)), **change}))
    assert "no FAST tokenizer" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"horizon": 16'])
def test_a_cut_file_is_no_tokenizer(text):
    with pytest.raises(ValueError, match="no FAST tokenizer"):
        fast.from_json(text)


def test_larger_motion_is_refused_or_bent():
    with pytest.raises(
        ValueError, match=r"has no token: chunk 1, frequency 0, dimension 0(.|\n)*outside='clip'"
    ):
        fast.encode(FITTED, np.stack([CHUNKS[0], np.full((H, A), 5.0)]))
    bent, ok = fast.decode(FITTED, fast.encode(FITTED, np.full((1, H, A), 5.0), outside="clip"))
    assert ok.all()
    # The constant of the largest coefficient of `fit`: high / scale / sqrt H.
    np.testing.assert_allclose(bent, FITTED.high / 10 / 4, rtol=1e-6)


def holed(value):
    chunks = CHUNKS[:3].copy()
    chunks[2, 5, 1] = value
    return chunks


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fast.fit(CHUNKS[0]), r"wrong shape(.|\n)*chunks\[None\]"),
        (lambda: fast.fit(CHUNKS[:0]), "at least one chunk"),
        (lambda: fast.fit(holed(np.nan)), "not finite in chunk 2, step 5, dimension 1"),
        (lambda: fast.fit(CHUNKS, scale=0), "no size of a step"),
        (lambda: fast.fit(CHUNKS, scale=float("nan")), "no size of a step"),
        (lambda: fast.fit(1e3 * CHUNKS), "more tokens than there are(.|\n)*not normalised"),
        (lambda: fast.fit(CHUNKS, vocab_size=5), "vocab_size=5"),
        (lambda: fast.encode(FITTED, CHUNKS[:2, 1:]), rf"H = {H}, A = {A}"),
        (lambda: fast.encode(FITTED, CHUNKS[0]), r"chunks\[None\]"),
        (lambda: fast.encode(FITTED, holed(np.inf)), "chunk 2, step 5, dimension 1"),
        (lambda: fast.encode(FITTED, CHUNKS, outside="ignore"), "'raise' or 'clip'"),
        (lambda: fast.language_ids(np.array([257_024])), "0 to 257023"),
        (lambda: fast.language_ids(np.array([-1])), "-1 to -1"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fast.fit(CHUNKS, vocab_size=300.0), "expected an integer"),
        (lambda: fast.decode(FITTED, [1, 2]), r"\[tokens\] for a single chunk"),
        (lambda: fast.decode(FITTED, [[1.0]]), "sequences of integers"),
        (lambda: fast.language_ids(np.array([1.0])), "expected integers"),
    ],
)
def test_bad_types(call, words):
    with pytest.raises(TypeError, match=words):
        call()


def test_a_place_in_the_language_models_vocabulary():
    # openpi: 257,152 words, the last 128 kept: token 0 is 257,152 - 1 - 128 = 257,023, and downwards.
    np.testing.assert_array_equal(fast.language_ids(np.array([0, 5])), [257_023, 257_018])
    np.testing.assert_array_equal(fast.language_ids(np.array([0]), vocabulary=32_000, reserved=0), [31_999])
    tokens = fast.encode(FITTED, CHUNKS[:1])[0]
    np.testing.assert_array_equal(fast.language_ids(fast.language_ids(tokens)), tokens)


def test_decoding_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    actions, ok = fast.decode(Fast(1, 1, 10.0, -1, 1, ()), [[2]])
    assert ok.all()
    with pytest.raises(ValueError, match=r"needs the package tokenizers(.|\n)*pip install"):
        fast.fit(CHUNKS[:1])
