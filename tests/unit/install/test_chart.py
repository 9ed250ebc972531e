"""The chart is what the renderer says, and its values are checked alike on both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.install import chart
from appliance.install.nodes import Each, Item, Value, filled, resolve, text
from appliance.install.templates import template
from appliance.install.values import defaults, merged, parse

CHART = Path(__file__).parents[3] / "packaging" / "helm"


def test_the_chart_in_the_checkout_is_the_one_the_code_writes(tmp_path: Path) -> None:
    """packaging/helm has exactly the written files: python -m appliance.install.chart packaging/helm."""
    chart.write(tmp_path)
    for directory in (CHART, tmp_path):
        found = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
        assert found == set(chart.files())
    for name, contents in chart.files().items():
        assert (CHART / name).read_text() == contents, f"{name}: python -m appliance.install.chart packaging/helm"


def test_a_chart_is_written_over_an_older_one(tmp_path: Path) -> None:
    """Templates that a version no longer has go."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/old.yaml").write_text("kind: Old")
    chart.write(tmp_path)
    assert not (tmp_path / "templates/old.yaml").exists()


def test_the_values_file_says_the_defaults() -> None:
    """values.yaml, read back, is what the model defaults to: nothing is documented that does not hold."""
    assert yaml.safe_load((CHART / "values.yaml").read_text()) == defaults()
    assert set(json.loads((CHART / "values.schema.json").read_text())["properties"]) == set(defaults())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"managers": {"replicas": 3}}, {"replicas": 3, "resources": defaults()["managers"]["resources"]}),
        ({"managers": {"resources": {"limits": {"memory": None}}}}, None),
    ],
)
def test_values_are_laid_over_the_defaults_as_helm_does(given: Any, expected: Any) -> None:
    """Mappings merge and null removes."""
    found = parse(given)["managers"]
    if expected is None:
        expected = merged(defaults()["managers"], {"resources": {"limits": {}}})
        expected["resources"]["limits"] = {}
    assert found == expected


def test_places_are_filled_left_out_or_repeated() -> None:
    """The five kinds of holes, read for the command."""
    node = {
        "a": Value("name"),
        "b": text("x-", Value("name")),
        "c": filled("empty", 1),
        "d": filled("empty", 1, 2),
        "e": [filled("empty", 1), Each("many", {"n": Item()}), 3],
    }
    assert resolve([node, filled("empty", {})], {"name": "n", "empty": "", "many": ["p", "q"]}) == [
        {"a": "n", "b": "x-n", "d": 2, "e": [{"n": "p"}, {"n": "q"}, 3]}
    ]


@pytest.mark.parametrize(
    "node", [{"a": [filled("x", 1)]}, {"a": [{"b": filled("x", 1), "c": 2}]}], ids=["list", "first entry"]
)
def test_what_a_template_could_not_say_is_refused(node: Any) -> None:
    """A list that could vanish, or an item without a certain first entry, would be other YAML than was meant."""
    with pytest.raises(ValueError, match=r"unconditional|always there"):
        template([node])


def test_braces_in_texts_are_no_actions() -> None:
    """A description that shows a template is not run as one."""
    assert template([{"a": "{{ x }}"}]) == '---\na: "{{ "{{" }} x }}"\n'
