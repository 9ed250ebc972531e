"""The rules of what is newer, and the indexes, by table and by random histories."""

import random

import pytest

from appliance.api.structs import Meta, Sandbox, SandboxStatus
from appliance.kube.store import TOMBSTONES, Store


def make(name: str, version: int, uid: str = "u", phase: str = "") -> Sandbox:
    meta = Meta(name=name, namespace="d", uid=uid, resource_version=str(version))
    return Sandbox(meta=meta, status=SandboxStatus(phase=phase))


def store() -> Store[Sandbox]:
    return Store({"phase": lambda sbx: [sbx.status.phase] if sbx.status.phase else []})


def names(found: object) -> list[str]:
    return [one.name for one in found]  # type: ignore[attr-defined]


def test_only_newer_versions_of_an_object_count() -> None:
    """The same and older versions change nothing; numbers are compared as numbers, not as text."""
    cache, first = store(), make("a", 9)
    assert cache.upsert(first) == [(None, first)]
    assert cache.upsert(make("a", 9)) == []
    assert cache.upsert(make("a", 8)) == []
    second = make("a", 10)
    assert cache.upsert(second) == [(first, second)]


def test_another_uid_is_a_deletion_and_a_creation() -> None:
    """Handlers hear both, and the old uid stays dead."""
    cache, old, new = store(), make("a", 1, "old"), make("a", 5, "new")
    cache.upsert(old)
    assert cache.upsert(new) == [(old, None), (None, new)]
    assert cache.upsert(make("a", 9, "old"), observed=True) == []


def test_an_answer_to_a_write_never_resurrects() -> None:
    """After DELETED the answer to an older or even newer write of the same uid is dropped."""
    cache = store()
    cache.upsert(make("a", 1))
    cache.remove(make("a", 5))
    assert cache.upsert(make("a", 4), observed=True) == []
    assert cache.upsert(make("a", 9), observed=True) == []
    assert cache.get(("d", "a")) is None


def test_the_watch_may_show_an_object_again_that_left_the_selector() -> None:
    """With a selector DELETED also means "no longer selected": a later ADDED of the same uid counts."""
    cache = store()
    cache.upsert(make("a", 1))
    cache.remove(make("a", 5))
    assert cache.upsert(make("a", 5)) == []
    assert cache.upsert(make("a", 6)) == [(None, make("a", 6))]
    assert cache.upsert(make("a", 7), observed=True)


def test_a_deletion_of_the_predecessor_does_not_hit_the_successor() -> None:
    """An object made anew and observed before the watch reports the old one's end stays."""
    cache = store()
    cache.upsert(make("a", 1, "old"))
    cache.upsert(make("a", 9, "new"), observed=True)
    assert cache.remove(make("a", 8, "old")) == []
    assert cache.get(("d", "a")) == make("a", 9, "new")


def test_a_complete_list_removes_what_it_lacks_unless_newer() -> None:
    """Own writes that happened after the list's moment survive it."""
    cache = store()
    for name, version in (("gone", 5), ("kept", 6), ("fresh", 11)):
        cache.upsert(make(name, version, name))
    assert names(old for old, _ in cache.retain({("d", "kept")}, 10)) == ["gone"]
    assert sorted(names(cache.items())) == ["fresh", "kept"]
    assert cache.upsert(make("gone", 9, "gone"), observed=True) == []


def test_indexes_keep_their_order_and_forget_empty_values() -> None:
    """Snapshots come in filing order, an update in place keeps the place, a new value goes to the end."""
    cache = store()
    for name in "abc":
        cache.upsert(make(name, 1, name, "Running"))
    cache.upsert(make("a", 2, "a", "Running"))
    snapshot = cache.by_index("phase", "Running")
    cache.upsert(make("b", 3, "b", "Paused"))
    assert names(snapshot) == ["a", "b", "c"]
    assert cache.by_index("phase", "Running")[0].meta.resource_version == "2"  # type: ignore[index]
    assert names(cache.by_index("phase", "Running")) == ["a", "c"]
    assert names(cache.by_index("phase", "Paused")) == ["b"]
    cache.remove(make("b", 4, "b"))
    assert cache.by_index("phase", "Paused") == ()
    assert "Paused" not in cache._buckets["phase"]


def test_unknown_indexes_are_an_error() -> None:
    """A misspelt index raises instead of finding nothing for ever."""
    with pytest.raises(KeyError):
        store().by_index("phases", "Running")


def test_an_index_that_fails_on_one_object_does_not_stop_the_cache() -> None:
    """The object is cached, unfiled, and the others are found."""
    cache: Store[Sandbox] = Store({"bad": lambda sbx: [str(1 // (sbx.name != "b"))]})
    for name in "ab":
        cache.upsert(make(name, 1, name))
    assert len(cache.items()) == 2
    assert names(cache.by_index("bad", "1")) == ["a"]


def test_tombstones_are_bounded() -> None:
    """The memory of deleted uids does not grow without end."""
    cache = store()
    for number in range(TOMBSTONES + 10):
        cache.remove(make("a", number, f"u{number}"))
    assert len(cache._tombstones) == TOMBSTONES


@pytest.mark.parametrize("seed", range(40))
def test_random_histories_end_in_the_truth(seed: int) -> None:
    """Whatever mix of watch events, early and late answers and relists arrives, the end state is the server's."""
    rand = random.Random(seed)
    truth: dict[str, Sandbox] = {}
    history: list[tuple[str, Sandbox]] = []
    for version in range(1, 120):
        name = rand.choice("abcd")
        old = truth.get(name)
        if old is not None and rand.random() < 0.3:
            history.append(("DELETED", make(name, version, old.uid)))
            del truth[name]
            continue
        new = make(name, version, old.uid if old else f"u{version}", rand.choice(["Running", "Paused"]))
        history.append(("MODIFIED" if old else "ADDED", new))
        truth[name] = new
    cache, alive = store(), {}
    for position, (kind, item) in enumerate(history):
        for _ in range(rand.randrange(3)):  # answers to writes of any moment up to a little ahead
            other_kind, other = history[rand.randrange(min(len(history), position + 5))]
            if other_kind != "DELETED":
                cache.upsert(other, observed=True)
        cache.remove(item) if kind == "DELETED" else cache.upsert(item)
        alive.pop(item.name, None) if kind == "DELETED" else alive.update({item.name: item})
        if rand.random() < 0.05:
            for one in alive.values():
                cache.upsert(one)
            cache.retain({one.key for one in alive.values()}, position + 1)
    assert {item.name: item for item in cache.items()} == truth
    by_phase = sorted(names(cache.by_index("phase", "Running")))
    assert by_phase == sorted(name for name, item in truth.items() if item.status.phase == "Running")
