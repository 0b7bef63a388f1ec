"""Our models against the printed and the recounted sizes; the verb that says so."""

import dataclasses
import json

import pytest
import torch

from ray_st.cli import main
from ray_st.models.zoo import ROWS, Figures, Measured, measure
from ray_st.verbs import models as verb

pytestmark = pytest.mark.pure
torch.set_num_threads(1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_size_is_the_papers(row):
    measured = measure(row)
    assert measured.wrong == [], measured.off_percent


def test_rows_have_names_of_their_own():
    assert len({row.name for row in ROWS}) == len(ROWS)


def measured(expected, counted):
    row = dataclasses.replace(ROWS[0], recount=Figures(**expected))
    return Measured(row=row, image_size_px=640, counted=Figures(**counted))


@pytest.mark.parametrize(
    ("parameters", "multiply_adds", "wrong"),
    [
        (100.0, 200.0, []),
        (100.09, 199.1, []),
        (100.11, 200.0, ["parameters_m"]),
        (99.89, 201.1, ["parameters_m", "multiply_adds_b"]),
        (100.0, 198.9, ["multiply_adds_b"]),
    ],
)
def test_a_figure_outside_its_tolerance_is_named(parameters, multiply_adds, wrong):
    found = measured(
        {"parameters_m": 100.0, "multiply_adds_b": 200.0},
        {"parameters_m": parameters, "multiply_adds_b": multiply_adds},
    )
    assert found.wrong == wrong


def test_the_recount_stands_before_what_was_printed():
    seven = next(row for row in ROWS if row.recipe == "coco_r50_nasfpn" and row.printed)
    assert seven.expected is seven.recount
    alone = next(row for row in ROWS if row.recount is None)
    assert alone.expected is alone.printed


@pytest.fixture
def two_rows(monkeypatch):
    """Small models only, the second of them wrong."""
    right = next(row for row in ROWS if row.name == "SpineNet-49S")
    wrong = dataclasses.replace(
        right, name="wrong", recount=Figures(parameters_m=11.27, multiply_adds_b=20.0)
    )
    monkeypatch.setattr(verb, "ROWS", (right, wrong))


def test_the_verb_prints_and_fails_only_when_it_shall_check(two_rows, capsys):
    assert main(["models"]) == 0
    out, err = capsys.readouterr()
    assert "11.27" in out
    assert "30.78" in out
    footer = " ".join(out.split())
    assert "printed sizes hold its own classifier, which a segmenter does not use" in footer
    assert "SpineNet-49S was printed with 256 channels and released with 128" in footer
    assert err == ""
    assert main(["models", "--check"]) == 1
    err = capsys.readouterr().err
    assert err == "wrong: off by multiply_adds_b +53.89 % (allowed 0.5 %)\n"


def test_the_verb_as_json(two_rows, capsys):
    assert main(["models", "--json", "--check"]) == 1
    right, wrong = json.loads(capsys.readouterr().out)
    assert right["recipe"] == "coco_spinenet49s"
    assert (right["wrong"], wrong["wrong"]) == ([], ["multiply_adds_b"])
    assert right["parameters_m"] == pytest.approx(11.27, rel=1e-3)
    assert right["printed"] is None
