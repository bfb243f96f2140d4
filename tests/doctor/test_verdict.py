"""From findings to a verdict, and to text and JSON that hold whatever a data set is called."""

import json

import numpy as np
import pytest

from ch3_jax.doctor import precision, text
from ch3_jax.doctor.examine import CHECKS, Failed, Report
from ch3_jax.doctor.finding import Finding, NotExamined
from ch3_jax.doctor.verdict import confidence, diagnose


def finding(cause="unit_mix", check=1, severity="fault", **others) -> Finding:
    fields = {
        "statistic": "ratio",
        "value": 57.3,
        "bound": 2.0,
        "where": "joint 1",
        "sentence": "It is wide.",
    }
    return Finding(check, cause, severity, **{**fields, **others})


def report(*findings, examined=(1, 2), failed=(), not_examined=(), name="x") -> Report:
    return Report(name, findings, not_examined, failed, {n: 0.1 for _, n, _ in CHECKS}, examined)


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """18 of 20 faults and 8 of 10 warnings right, in every check.

    Pools: (126 + 5) / 150 and (56 + 5) / 80; shares: (18 + 10 pool) / 30 and (8 + 10 pool) / 20.
    """
    table = {(check, "fault"): (18, 20) for check in range(1, 8)}
    table |= {(check, "warning"): (8, 10) for check in range(1, 8)}
    monkeypatch.setattr(precision, "PRECISION", table)


def believed(severity: str) -> float:
    return {"fault": (18 + 10 * 131 / 150) / 30, "warning": (8 + 10 * 61 / 80) / 20}[severity]


def test_nothing_found_is_healthy_and_nothing_examined_is_no_verdict():
    assert diagnose(report(finding("normal", severity="note"))).status == "healthy"
    assert diagnose(report(examined=())).status == "abstain"


def test_confidence_counts_each_check_once():
    c = believed("fault")
    assert confidence((finding(), finding())) == pytest.approx(c)
    assert confidence((finding(check=1), finding(check=4))) == pytest.approx(1 - (1 - c) ** 2)
    assert confidence((finding(severity="warning"), finding())) == pytest.approx(c)
    assert 0.5 < believed("warning") <= c < 1


def test_one_cause_and_its_consequences_are_one_place():
    # Degrees on one joint make spikes and a divergence; neither is a fault of its own.
    found = diagnose(report(finding("spikes", 6), finding("divergence", 6), finding("unit_mix", 1)))
    assert found.status == "one place"
    assert [b.cause for b in found.causes] == ["unit_mix", "spikes", "divergence"]
    assert [b.explained_by for b in found.causes] == [None, "unit_mix", "unit_mix"]
    assert found.causes[1].confidence == pytest.approx(believed("fault") / 2, abs=1e-3)


def test_several_causes_stand_in_causal_order():
    found = diagnose(
        report(finding("label_noise", 7), finding("padding_counted", 6), finding("clipped_actions"))
    )
    assert found.status == "several"
    assert [b.cause for b in found.causes] == ["clipped_actions", "padding_counted", "label_noise"]


def test_a_warning_does_not_stand_before_a_fault():
    found = diagnose(report(finding("zero_first_actions", severity="warning"), finding("padding_counted", 6)))
    assert [b.cause for b in found.causes] == ["padding_counted", "zero_first_actions"]


def test_equivalent_causes_are_one():
    found = diagnose(report(finding("non_finite_gradient", 5), finding("non_finite_loss", 5)))
    assert len(found.causes) == 1 and found.status == "one place"


def test_none_of_the_seven_says_what_to_test():
    found = diagnose(report(finding("weights_not_loaded", 3)))
    assert found.status.startswith("none of the seven: test compare a hash")
    failing = diagnose(report(examined=(1, 2, 3, 4, 5)), success=0.0)
    assert failing.status.startswith("none of the seven: test whether pretrained weights were loaded")
    assert diagnose(report(examined=(1, 2, 3, 4, 5)), success=0.8).status == "healthy"


HOSTILE = "<script>alert('x')</script>\x1b[31m\n" + "y" * 300


def test_the_page_has_80_columns_whatever_the_names_are():
    bad = finding(sentence=f"{HOSTILE} is wide.", where=HOSTILE)
    made = report(
        bad,
        finding("normal", severity="note"),
        failed=(Failed(3, "ten steps", f"ValueError: {HOSTILE}"),),
        not_examined=(NotExamined(6, HOSTILE, "a curve"),),
        name=HOSTILE,
    )
    page = text.summary(made, diagnose(made))
    assert max(map(len, page.splitlines())) <= 80
    assert all(c.isprintable() or c == "\n" for c in page)
    assert "check 3" in page and "ValueError" in page and "not examined:" in page
    assert all(len(text.one_line(made, n)) <= 80 for n in range(1, 8))


def test_json_is_plain_and_has_no_nan():
    made = report(
        finding(value=np.float32(np.nan), p=0.5, numbers={"k": np.int64(3), "z": np.inf}), name=HOSTILE
    )
    document = json.loads(text.dumps(text.to_json(made, diagnose(made))), parse_constant=pytest.fail)
    assert document["name"] == HOSTILE and document["status"] == "one place"
    (found,) = document["findings"]
    assert found["value"] is None and found["numbers"] == {"k": 3, "z": None}
    assert found["next_experiment"] and document["causes"][0]["cause"] == "unit_mix"


def test_a_finding_refuses_what_is_none():
    with pytest.raises(ValueError, match="severity"):
        finding(severity="bad")
    with pytest.raises(ValueError, match="check"):
        finding(check=8)
