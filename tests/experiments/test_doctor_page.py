"""The page: everything escaped, nothing loaded, a picture that fails takes no other with it."""

import dataclasses
import html.parser
import shutil
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from ch3_jax.base import Batch
from ch3_jax.data.episodes import Dataset, Facts, Steps
from ch3_jax.doctor.examine import Failed, Report
from ch3_jax.doctor.finding import Finding, NotExamined
from ch3_jax.doctor.history import from_arrays
from ch3_jax.doctor.patient import Patient
from ch3_jax.doctor.verdict import diagnose
from experiments import doctor_page

HOSTILE = '<script>alert("x")</script>$\\frac{1}$\x07'


def _dataset() -> Dataset:
    rng = np.random.default_rng(0)
    target = np.cumsum(rng.normal(size=(400, 2)), axis=0).astype(np.float32)
    state = np.vstack([target[:1], target[:-1]])  # reaches its target in one step
    facts = Facts(HOSTILE, "generated", ("a", HOSTILE), ("a", HOSTILE))
    return Dataset(facts, {"train": Steps(state, target, np.arange(0, 401, 40))})


@pytest.fixture(scope="module")
def examined():
    found = Finding(
        6,
        "divergence",
        "fault",
        HOSTILE,
        np.inf,
        2.0,
        HOSTILE,
        f"sentence {HOSTILE}",
        numbers={"first_step": 10, "last_step": 20},
    )
    report = Report(
        HOSTILE,
        (found,),
        (NotExamined(3, HOSTILE, HOSTILE),),
        (Failed(4, "gradients", HOSTILE),),
        {"the loss curve": 0.1},
        (6,),
    )
    batch = Batch(jnp.zeros((8, 1, 2)), jnp.ones((8, 1, 2)), jnp.ones((8, 1), bool))
    patient = Patient(
        HOSTILE,
        dataset=_dataset(),
        history=from_arrays(**{"loss": [2.0, np.nan, 1.0], f"gradient_norm/{HOSTILE}": [1.0, 0.5, 0.1]}),
        batches=lambda step: batch,
        params={},
        act=lambda params, observation, key: observation[:, :1] + 0.5,
        floor=0.5,
    )
    return patient, report, diagnose(report)


class _Tags(html.parser.HTMLParser):
    def __init__(self, page: str):
        super().__init__()
        self.tags, self.loads, self.text = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action", "srcset", "data"):
                self.loads.append(value)

    def handle_data(self, data):
        self.text.append(data)


def test_everything_is_escaped_and_nothing_is_loaded(examined):
    page = doctor_page.render(*examined)
    read = _Tags(page)
    assert "script" not in read.tags and "&lt;script&gt;" in page
    assert all(link.startswith(("#", "data:,")) for link in read.loads), read.loads
    assert "default-src 'none'" in page and "@import" not in page and "url(http" not in page
    assert "\x07" not in page


def test_every_picture_is_drawn_in_the_colours_of_the_page(examined):
    page = doctor_page.render(*examined)
    assert page.count("<svg") == 6 and "could not be drawn" not in page
    assert "currentColor" in page and "#010203" not in page
    text = " ".join(_Tags(page).text)
    for word in ("Loss", "first non-finite, step 1", "floor 0.5", "Lag of the actions", "demonstrated"):
        assert word in text


def test_the_verdict_stands_before_the_evidence(examined):
    text = " ".join(_Tags(doctor_page.render(*examined)).text)
    places = [text.index(words) for words in ("one place", "Causes", "The seven checks", "Evidence")]
    assert places == sorted(places)
    assert text.index("Next:") < text.index("The seven checks") < text.index("needs")


def test_a_picture_that_fails_takes_no_other_with_it(examined):
    patient, report, diagnosis = examined

    def act(params, observation, key):
        raise RuntimeError(f"no such policy {HOSTILE}")

    page = doctor_page.render(dataclasses.replace(patient, act=act), report, diagnosis)
    assert page.count("<svg") == 5 and "could not be drawn: RuntimeError: no such policy" in page


def test_a_patient_of_nothing_has_a_page():
    report = Report("nothing", (), (), (), {})
    page = doctor_page.render(Patient("nothing"), report, diagnose(report))
    assert "<svg" not in page and "abstain" in page


def _opened(browser: str, page: str, folder) -> tuple[int, str]:
    """Bytes of a screenshot, and what the browser's console said."""
    folder.mkdir()
    (folder / "report.html").write_text(page)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    flags += [f"--user-data-dir={folder / 'user'}", f"--screenshot={folder / 'page.png'}"]
    command = [browser, *flags, "--window-size=400,2000", (folder / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return (folder / "page.png").stat().st_size, "\n".join(console)


@pytest.mark.slow
def test_a_browser_opens_it_without_an_error_or_a_request(examined, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    page = doctor_page.render(*examined)
    size, console = _opened(browser, page, tmp_path / "page")
    assert size > 20_000 and console == ""
    # The page's own policy turns whatever it would load into an error: a page that asks for one is caught.
    asking = page.replace("<main>", '<main><img src="http://localhost:9/a.png">')
    assert "localhost:9" in _opened(browser, asking, tmp_path / "asking")[1]
