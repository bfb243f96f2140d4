"""Samplers: oracles, orders, published numbers, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.errors import InputError
from ch3_jax.noise import steppers
from ch3_jax.noise.corruption import Mix, corrupt, target
from ch3_jax.noise.denoiser import Denoiser
from ch3_jax.noise.flow import linear_path
from ch3_jax.noise.ode import METHODS
from ch3_jax.noise.processes import Grid, denoising, diffusion, grid_at
from ch3_jax.noise.samplers import SAMPLERS, make_sampler, sample
from ch3_jax.noise.schedules import make_schedule

COSINE = make_schedule("squaredcos_cap_v2", 100)
DIFFUSION, DENOISING = diffusion(COSINE), denoising()
OURS, OPENPI = linear_path(), linear_path("noise_at_1")
PROCESSES = (DIFFUSION, DENOISING, OURS, OPENPI)
A = jnp.array([[0.5, -0.25], [1.0, 0.0]])
N = jnp.array([[1.0, -1.0], [0.5, 2.0]])
KEY = jax.random.key(0)
# Step by step, as Python, on actions of one shape: a scan would be compiled anew for every case, which costs
# fifty times a short walk.
# `test_jit_and_vmap_change_nothing` ties the compiled walks to these.
EAGER = pytest.mark.usefixtures("eager")


def knows(process, prediction, x0, eps):
    """The network that always says the truth about one pair."""

    def apply(x, t):
        return target(prediction, x0.astype(x.dtype), eps.astype(x.dtype), process.mix(t))

    return Denoiser(apply, prediction, process)


def gaussian(process, prediction, mean, std):
    """The best network for actions N(mean, std^2): E[x0 | x], as any prediction."""

    def apply(x, t):
        mix = process.mix(t)
        a, s = mix.signal[:, None], mix.noise[:, None]
        # E[x0 | x] and E[eps | x], each without a division by what vanishes at an end.
        pull = (x - a * mean) / (a**2 * std**2 + s**2)
        return target(prediction, mean + std**2 * a * pull, s * pull, mix)

    return Denoiser(apply, prediction, process)


def transported(grid, x, mean, std):
    """Where the differential equation of `gaussian` takes x: quantiles stay."""
    first, last = (np.hypot(grid.signal[i] * std, grid.noise[i]) for i in (0, -1))
    return grid.signal[-1] * mean + last / first * (x - grid.signal[0] * mean)


def fitting(processes=PROCESSES):
    """Every sampler with every process that it can walk."""
    return [
        pytest.param(name, process, id=f"{name}-{process.name}")
        for process in processes
        for name in SAMPLERS
        if name != "adaptive" and (process.continuous or name not in METHODS)
    ]


@EAGER
@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(("name", "process"), fitting())
def test_oracle_recovers_the_action(name, process, wide):
    """From its own noisy action, with the truth as network, every sampler returns the clean action."""
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        x0, eps = (jnp.asarray(np.asarray(v), dtype) for v in (A, N))
        sampler = make_sampler(name, process, steps=10)
        prediction = sampler.prediction
        # DDPM leaves the line, so its oracle is the one that knows the action.
        if name == "ddpm":
            prediction, sampler = "x0", make_sampler(name, process, steps=10, prediction="x0")
        grid = process.grid(10)
        x = corrupt(x0, eps, Mix(jnp.asarray(grid.signal[0]), jnp.asarray(grid.noise[0])))
        found = sampler.run(knows(process, prediction, x0, eps), x, KEY)
        assert found.dtype == dtype
        # sqrt(abar) of the start is 4.9e-4: eps -> x0 magnifies float32 rounding 2,000 times.
        np.testing.assert_allclose(found, x0, atol=1e-9 if wide else 5e-4 if process is DIFFUSION else 2e-6)


@EAGER
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_every_prediction_gives_the_same_walk(prediction):
    reference = make_sampler("ddim", DIFFUSION, steps=10, prediction="x0")
    sampler = make_sampler("ddim", DIFFUSION, steps=10, prediction=prediction)
    x = jax.random.normal(KEY, (2, 2))
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(x), jnp.float64)
        expected = reference.run(gaussian(DIFFUSION, "x0", 0.5, 0.3), x)
        found = sampler.run(gaussian(DIFFUSION, prediction, 0.5, 0.3), x)
        np.testing.assert_allclose(found, expected, atol=1e-9)


@EAGER
@pytest.mark.parametrize("prediction", ["velocity", "x0", "eps", "v"])
@pytest.mark.parametrize("path", [OURS, OPENPI], ids=lambda p: p.direction)
@pytest.mark.parametrize("name", ["euler", "ddim", "dpmpp_2m"])
def test_every_prediction_of_a_flow(name, path, prediction):
    """eps has nothing to say about x0 at the very start, so the walk begins a little later."""
    late = path._replace(grid=lambda n: Grid(*(c[1:] for c in path.grid(n + 1))))
    with jax.enable_x64(True):
        x = jax.random.normal(KEY, (2, 2), jnp.float64)
        sampler = make_sampler(name, late, steps=10, prediction=prediction)
        expected = make_sampler(name, late, steps=10).run(gaussian(path, "velocity", 0.5, 0.3), x)
        np.testing.assert_allclose(sampler.run(gaussian(path, prediction, 0.5, 0.3), x), expected, atol=1e-6)


@EAGER
@pytest.mark.parametrize(
    ("name", "order"),
    [("euler", 1), ("ddim", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)],
)
@pytest.mark.parametrize("path", [OURS, OPENPI], ids=lambda p: p.direction)
def test_order_of_convergence(name, order, path):
    """dx/dt = x cos t, so x = x_0 exp(sin t - sin t_0)."""
    errors = []
    with jax.enable_x64(True):
        x = jnp.array([[-2.0, -1.0], [1.0, 2.0]], jnp.float64)
        field = Denoiser(lambda x, t: x * jnp.cos(t)[:, None], "velocity", path)
        sign = 1 if path is OURS else -1
        for steps in (16, 32):
            found = make_sampler(name, path, steps=steps).run(field, x)
            errors.append(float(jnp.abs(found - x * np.exp(sign * np.sin(1))).max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)
    assert errors[1] < 0.1


def in_log_snr():
    """DPM-Solver's own variable as time: equal steps of ln(a / s) from -4 to 4, on a diffusion's circle."""

    def grid(steps):
        half = np.linspace(-4, 4, steps + 1)
        return Grid(half, np.sqrt(1 / (1 + np.exp(-2 * half))), np.sqrt(1 / (1 + np.exp(2 * half))))

    # Time is ln(a / s) here, so that the network can find its place.
    def mix(t):
        return Mix(jnp.sqrt(jax.nn.sigmoid(2 * t)), jnp.sqrt(jax.nn.sigmoid(-2 * t)))

    return DIFFUSION._replace(grid=grid, mix=mix, continuous=True)


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpmpp_2m", 2)])
def test_order_of_convergence_in_the_log_of_the_snr(name, order):
    process = in_log_snr()
    options = {"lower_order_final": False} if name == "dpmpp_2m" else {}
    errors = []
    with jax.enable_x64(True):
        x = jnp.linspace(-2, 2, 5, dtype=jnp.float64)[:, None]
        for steps in (80, 160):
            sampler = make_sampler(name, process, steps=steps, prediction="x0", **options)
            found = sampler.run(gaussian(process, "x0", 0.5, 0.5), x)
            errors.append(float(jnp.abs(found - transported(process.grid(steps), x, 0.5, 0.5)).max()))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_order_of_convergence_of_ddpm(monkeypatch):
    """On a Gaussian the walk is linear: x_end = c x_start + sum_i k_i n_i.

    c, the slope of E[x_end | x_start], is exact with any number of steps, as every step takes the
    conditional mean. The variance sum_i k_i^2 lacks what x0 itself would add in every step: first order.
    Row i of the batch is given a 1 as the noise of step i and nothing else, so that it ends at k_i.
    """
    monkeypatch.setattr(
        steppers, "_noise", lambda key, row, x: 1.0 * (jnp.arange(len(x)) == row["index"])[:, None]
    )
    process, std, errors = in_log_snr(), 0.5, []
    with jax.enable_x64(True):
        for steps in (80, 160):
            sampler = make_sampler("ddpm", process, steps=steps, prediction="x0")
            x = jnp.zeros((steps + 1, 1), jnp.float64).at[-1].set(1.0)  # the last row walks without noise
            found = sampler.run(gaussian(process, "x0", 0.0, std), x, KEY)
            grid = process.grid(steps)
            v = (grid.signal * std) ** 2 + grid.noise**2
            slope = grid.signal[0] / grid.signal[-1] * v[-1] / v[0]
            assert float(found[-1, 0]) == pytest.approx(slope, rel=1e-9)
            exact = v[-1] - slope**2 * v[0]
            errors.append(1 - float(jnp.sum(found[:-1] ** 2)) / exact)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.1)
    assert 0 < errors[1] < 0.06


def test_dpmpp_needs_fewer_calls_than_ddim():
    with jax.enable_x64(True):
        x = jnp.linspace(-2, 2, 5, dtype=jnp.float64)[:, None]
        network = gaussian(DIFFUSION, "eps", 0.5, 0.5)
        exact = transported(DIFFUSION.grid(20), x, 0.5, 0.5)
        error = {
            name: float(jnp.abs(make_sampler(name, DIFFUSION, steps=20).run(network, x) - exact).max())
            for name in ("ddim", "dpmpp_2m")
        }
    assert error["dpmpp_2m"] < 0.3 * error["ddim"]


@EAGER
def test_e6_ddim():
    process = diffusion(COSINE, spacing="leading", allow_signal=True)
    x = corrupt(A, N, process.mix(jnp.array([90, 90])))
    np.testing.assert_allclose(x.reshape(-1), [1.06008017, -1.02512991, 0.63489097, 1.98035920], atol=3e-7)
    sampler = make_sampler("ddim", process, steps=10)
    network = Denoiser(lambda x, t: N, "eps", process)
    states = sampler.trace(network, x)
    assert states.shape == (11, 2, 2)
    np.testing.assert_array_equal(states[0], x)
    np.testing.assert_allclose(
        states[1].reshape(-1), [1.10237896, -1.02942944, 0.77003813, 1.91295981], atol=1e-6
    )
    np.testing.assert_allclose(states[-1], A, atol=3e-6)
    np.testing.assert_array_equal(sampler.run(network, x), states[-1])


@EAGER
@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp_2m"])
def test_e6_clip(name):
    """A true x0 of 2.5 seen at step 20, clipped to 1."""
    process = DIFFUSION._replace(grid=lambda n: grid_at(COSINE, [20]))
    x = corrupt(jnp.array([[2.5]]), jnp.array([[0.3]]), Mix(COSINE.signal[20], COSINE.noise[20]))
    network = Denoiser(lambda x, t: jnp.full_like(x, 0.3), "eps", process)
    clipped = make_sampler(name, process, steps=1, clip=1.0).run(network, x, KEY)
    assert float(clipped[0, 0]) == pytest.approx(1.0, abs=1e-6)
    ends = np.array([-0.5], np.float32), np.array([2.0], np.float32)
    kept = make_sampler(name, process, steps=1, clip=ends).run(network, x, KEY)
    assert float(kept[0, 0]) == pytest.approx(2.0, abs=1e-6)
    with pytest.raises(InputError, match="clip"):
        make_sampler(name, process, steps=1, clip=ends[::-1])
    free = make_sampler(name, process, steps=1).run(network, x, KEY)
    assert float(free[0, 0]) == pytest.approx(2.5, abs=1e-5)


@EAGER
def test_e7_euler():
    run = make_sampler("euler", OPENPI, steps=10).run
    found = run(Denoiser(lambda x, t: N - A, "velocity", OPENPI), N)
    np.testing.assert_allclose(found, A, atol=3e-7)
    pulled = run(Denoiser(lambda x, t: (x - A) / t[:, None], "velocity", OPENPI), N)
    np.testing.assert_allclose(pulled, A, atol=1e-6)
    # The sign: with the field of the other convention it ends as far on the other side.
    away = run(Denoiser(lambda x, t: A - N, "velocity", OPENPI), N)
    np.testing.assert_allclose(away, 2 * N - A, atol=1e-6)


@EAGER
@pytest.mark.parametrize(("steps", "factor"), [(1, -1), (2, -0.5), (5, -0.2), (10, -0.1)])
def test_e7_first_order_error(steps, factor):
    found = make_sampler("euler", OPENPI, steps=steps).run(
        Denoiser(lambda x, t: 2 * t[:, None] * (N - A), "velocity", OPENPI), N
    )
    np.testing.assert_allclose(found - A, factor * (N - A), atol=1e-6)


@EAGER
def test_the_two_directions_give_the_same_actions():
    x = jax.random.normal(KEY, (2, 2))
    found = [
        make_sampler("heun", path, steps=7).run(gaussian(path, "velocity", 0.5, 0.3), x)
        for path in (OURS, OPENPI)
    ]
    np.testing.assert_allclose(*found, atol=1e-5)


@EAGER
def test_ddim_is_euler_on_straight_paths():
    """On a flow and on denoising both are x0 + s' eps along the same line."""
    x = jax.random.normal(KEY, (2, 2))
    for process in (OURS, OPENPI, DENOISING):
        network = gaussian(process, process.predictions[0], 0.5, 0.3)
        runs = [make_sampler(name, process, steps=9).run(network, x) for name in ("ddim", "euler")]
        np.testing.assert_allclose(*runs, atol=2e-6)


@pytest.mark.parametrize("process", [DIFFUSION, DENOISING], ids=lambda p: p.name)
def test_ddim_with_eta_1_is_ddpm(process):
    x = jax.random.normal(KEY, (2, 2))
    network = gaussian(process, "eps", 0.5, 0.3)
    eta = make_sampler("ddim", process, steps=20, eta=1.0).run(network, x, KEY)
    np.testing.assert_allclose(eta, make_sampler("ddpm", process, steps=20).run(network, x, KEY), atol=1e-4)


@EAGER
def test_ancestral_step_of_denoising():
    """sigma_up^2 = s'^2 (s^2 - s'^2) / s^2: the usual formula of ancestral sampling."""
    s, later = 0.8, 0.3
    grid = Grid(np.array([s, later]), np.ones(2), np.array([s, later]))
    process = DENOISING._replace(grid=lambda n: grid)
    x, eps = jnp.array([[1.0]]), jnp.array([[0.4]])
    found = make_sampler("ddpm", process, steps=1).run(Denoiser(lambda x, t: eps, "eps", process), x, KEY)
    up = np.sqrt(later**2 * (s**2 - later**2) / s**2)
    down = np.sqrt(later**2 - up**2)
    noise = jax.random.normal(jax.random.fold_in(KEY, 0), (1, 1))
    np.testing.assert_allclose(found, x + (down - s) * eps + up * noise, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "process", "options"),
    [
        ("ddpm", DIFFUSION, {}),
        ("ddpm", DIFFUSION, {"variance": "large"}),
        ("ddim", DIFFUSION, {}),
        ("dpmpp_2m", DIFFUSION, {}),
        ("ddpm", OURS, {}),
        ("heun", OPENPI, {}),
        # Marginal N(0, 0.3^2): the right start has variance 0.3^2 + 1.
        ("ddpm", denoising(data_std=0.3), {}),
        ("heun", denoising(data_std=0.3), {}),
    ],
)
def test_sampled_law(name, process, options):
    """Mean and standard deviation of a Gaussian, 40,000 samples: standard errors 0.0015 and 0.0011."""
    mean = 0.0 if "denoising" in process.name else 0.5
    network = gaussian(process, process.predictions[0], mean, 0.3)
    sampler = make_sampler(name, process, steps=100, **options)
    actions = jax.jit(lambda key: sample(sampler, network, key, (40_000, 1)))(KEY)
    assert float(actions.mean()) == pytest.approx(mean, abs=0.01)
    # The variance of the posterior given x0 is too small for a spread of x0: 0.283 at 100 steps.
    assert float(actions.std()) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("name", "share"), [("ddim", 0.3 / np.hypot(0.3, 1)), ("ddpm", 0.09 / 1.09)])
def test_a_start_off_centre_biases_denoising(name, share):
    """The documented bias of a start that does not know the action's mean, and its cure."""

    def bias(process):
        x = process.start(KEY, (40_000, 1))
        sampler = make_sampler(name, process, steps=200)
        return float(1.0 - sampler.run(gaussian(process, "eps", 1.0, 0.3), x, jax.random.key(1)).mean())

    assert bias(denoising(data_std=0.3)) == pytest.approx(share, abs=0.01)
    assert abs(bias(denoising(sigma_max=80.0, data_std=0.3))) < 0.01


@pytest.mark.parametrize(("name", "process"), fitting())
def test_calls_are_counted_and_stay_in_the_trained_range(name, process):
    asked = []

    def apply(x, t):
        asked.append(np.asarray(t))
        return jnp.zeros_like(x)

    sampler = make_sampler(name, process, steps=3)
    with jax.disable_jit():
        sampler.run(Denoiser(apply, sampler.prediction, process), jnp.ones((2, 3)), KEY)
    assert len(asked) == sampler.calls
    assert all(t.shape == (2,) for t in asked)
    assert min(t.min() for t in asked) >= np.float32(process.lowest)
    assert max(t.max() for t in asked) <= process.highest


@pytest.mark.parametrize(("name", "process"), fitting((DIFFUSION, OURS, DENOISING)))
def test_jit_and_vmap_change_nothing(name, process):
    sampler = make_sampler(name, process, steps=3)
    network = gaussian(process, sampler.prediction, 0.5, 0.3)
    keys, xs = jax.random.split(KEY, 2), jax.random.normal(KEY, (2, 2, 2))
    run = functools.partial(sampler.run, network)
    with jax.disable_jit():
        loop = jnp.stack([run(x, key) for x, key in zip(xs, keys, strict=True)])
    # The first step of a diffusion magnifies rounding 2,000 times, and the clean end damps it.
    tolerance = 5e-4 if process is DIFFUSION else 1e-5
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(xs, keys), loop, atol=tolerance)


@EAGER
def test_noise_is_fresh_in_every_step_and_for_every_key():
    network = Denoiser(lambda x, t: jnp.zeros_like(x), "x0", DIFFUSION)
    sampler = make_sampler("ddpm", DIFFUSION, steps=5, prediction="x0")
    x = jnp.zeros((1, 4))
    one, same, other = (sampler.trace(network, x, jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one[1:-1], other[1:-1])
    scaled = one[1:-1] / one[1:-1].std(axis=(1, 2), keepdims=True)
    assert not np.allclose(scaled[0], scaled[1])
    np.testing.assert_array_equal(one[-1], 0)  # the last step adds none


@EAGER
def test_large_variance_is_larger():
    network = Denoiser(lambda x, t: jnp.zeros_like(x), "x0", DIFFUSION)
    x = jnp.zeros((1, 4))
    runs = [
        make_sampler("ddpm", DIFFUSION, steps=5, prediction="x0", variance=v).trace(network, x, KEY)
        for v in ("small", "large")
    ]
    assert (np.abs(runs[1][1]) > np.abs(runs[0][1])).all()
    np.testing.assert_array_equal(runs[1][-1], 0)


@EAGER
def test_a_mismatch_with_the_training_is_refused():
    x = jnp.zeros((2, 3))

    def zeros(x, t):
        return jnp.zeros_like(x)

    run = make_sampler("euler", OURS, steps=5).run
    with pytest.raises(InputError, match="(?s)`sampler` walks time.*noise_at_0.*noise_at_1.*next step"):
        run(Denoiser(zeros, "velocity", OPENPI), x)
    with pytest.raises(InputError, match="(?s)another prediction.*velocity.*eps"):
        run(Denoiser(zeros, "eps", OURS), x)
    other = diffusion(make_schedule("squaredcos_cap_v2", 50))
    with pytest.raises(InputError, match="(?s)another noise process.*100 steps.*50 steps"):
        make_sampler("ddim", DIFFUSION, steps=5).run(Denoiser(zeros, "eps", other), x)
    with pytest.raises(ValueError, match="`prediction` has shape"):
        run(Denoiser(lambda x, t: x[:, :1], "velocity", OURS), x)
    with pytest.raises(ValueError, match="`key` is None"):
        make_sampler("ddpm", DIFFUSION, steps=5).run(Denoiser(zeros, "eps", DIFFUSION), x)
    with pytest.raises(TypeError, match="`x` has dtype int32"):
        run(Denoiser(zeros, "velocity", OURS), x.astype(int))
    with pytest.raises(ValueError, match="`x` has shape"):
        run(Denoiser(zeros, "velocity", OURS), jnp.float32(0))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_sampler("ddim", DIFFUSION, steps=0), "`steps`.*1 or more"),
        (lambda: make_sampler("ddim", DIFFUSION), "`steps`"),
        (lambda: make_sampler("ddim", DIFFUSION, steps=101), "more sampling `steps`.*at most 100"),
        (lambda: make_sampler("euler", OURS, steps=0), "`steps`"),
        (lambda: make_sampler("dpm", DIFFUSION, steps=5), "`sampler` 'dpm'"),
        (lambda: make_sampler("euler", DIFFUSION, steps=5), "`sampler`.*discrete time"),
        (lambda: make_sampler("adaptive", DIFFUSION), "`sampler`.*discrete time"),
        (lambda: make_sampler("adaptive", OURS, steps=5), "`steps`"),
        (lambda: make_sampler("ddim", DIFFUSION, steps=5, prediction="velocity"), "`prediction`"),
        (lambda: make_sampler("ddim", DIFFUSION, steps=5, variance="small"), "option 'variance'"),
        (lambda: make_sampler("euler", OURS, steps=5, clip=1.0), "option 'clip'"),
        (lambda: make_sampler("ddim", DIFFUSION, steps=5, eta=1.5), "`eta`"),
        (lambda: make_sampler("ddpm", DIFFUSION, steps=5, clip=0.0), "`clip`"),
        (lambda: make_sampler("ddpm", DIFFUSION, steps=5, variance="fixed_small"), "`variance`"),
        (lambda: make_sampler("ddim", diffusion(make_schedule("linear", 100)), steps=5), "signal"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=f"(?s){words}"):
        call()


def test_signal_at_the_start_is_allowed_when_asked_for():
    process = diffusion(make_schedule("linear", 100), allow_signal=True)
    assert make_sampler("ddim", process, steps=5).calls == 5
