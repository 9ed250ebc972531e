"""Label selectors evaluated locally mean what the server's do."""

import pytest

from appliance.kube import selectors

LABELS = {"app": "web", "tier": "front", "agents.kruise.io/created-by": "sandbox", "empty": ""}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app=other", False),
        ("app!=other", True),
        ("absent!=x", True),
        ("agents.kruise.io/created-by=sandbox,tier=front", True),
        ("agents.kruise.io/created-by=sandbox,tier=back", False),
        ("app in (web, db),tier", True),
        ("app in (db)", False),
        ("app notin (db,cache)", True),
        ("absent notin (a)", True),
        ("absent in (a)", False),
        ("!absent", True),
        ("!app", False),
        ("absent", False),
        ("empty=", True),
        ("app=", False),
    ],
)
def test_selectors_match_as_in_kubernetes(selector: str, expected: bool) -> None:
    """Equality, sets and existence, alone and joined; a missing label differs from every value."""
    assert selectors.parse(selector)(LABELS) is expected


@pytest.mark.parametrize("selector", ["a b", "a in x", "a=b c", ",", "a in (b", "=b"])
def test_what_is_no_selector_is_refused(selector: str) -> None:
    """The error shows the term."""
    with pytest.raises(ValueError, match="label selector"):
        selectors.parse(selector)
