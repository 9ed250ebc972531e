"""The CEL subset: what it computes, and what it refuses by name."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.embedded.apiserver.schema.cel import Rule, RuleError

SELF: dict[str, Any] = {"a": 3, "s": "hello", "l": [1, 2, 3], "m": {"k": "v"}, "t": True}


@pytest.mark.parametrize(
    "rule",
    [
        "self.a == 3 && !(self.a > 5)",
        "has(self.a) && !has(self.zz)",
        "!has(self.zz) || self.zz > 1",
        "self.zz == 1 || self.t",
        "size(self.l) == 3 && self.l.size() == 3 && self.s.size() == 5",
        "self.s.startsWith('he') && self.s.matches('^h.*o$')",
        "self.l.all(x, x > 0) && self.l.exists(x, x == 2) && self.l.exists_one(x, x == 3)",
        "self.l.filter(x, x > 1).map(x, x * 2) == [4, 6]",
        "2 in self.l && 'k' in self.m && self.m['k'] == 'v' && self.l[0] == 1",
        "(self.a > 2 ? 'big' : 'small') == 'big'",
        "-7 / 2 == -3 && -7 % 2 == -1 && 1 + 2 * 3 == 7",
        "string(self.a) == '3' && int('4') == 4",
    ],
)
def test_rules_that_hold(rule: str) -> None:
    """Each of these is true of the sample, as in CEL."""
    assert Rule.compile({"rule": rule}).check(SELF, None) is None


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("self.l.sum() > 1", "sum"),
        ("foo > 1", "foo"),
        ("self.a ==", "unexpected"),
        ("self.a @ 1", "cannot read"),
        ("", "specified"),
    ],
)
def test_rules_outside_the_subset(rule: str, word: str) -> None:
    """A rule that is not understood is refused with the word that is not."""
    with pytest.raises(RuleError, match=word):
        Rule.compile({"rule": rule})


def test_transition_rules_need_an_old_value() -> None:
    """A rule with oldSelf holds at creation and is checked at updates, with its message."""
    rule = Rule.compile({"rule": "self == oldSelf", "message": "is immutable"})
    assert rule.check(1, None) is None
    assert rule.check(1, 1) is None
    assert rule.check(2, 1) == "is immutable"


def test_errors_are_failures() -> None:
    """A rule that cannot be evaluated on an object is broken, not passed."""
    assert "no such key" in str(Rule.compile({"rule": "self.zz == 1"}).check(SELF, None))
