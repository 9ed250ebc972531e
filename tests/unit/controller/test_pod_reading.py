"""What a pod's status says of its containers."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from appliance.api.corestructs import Pod
from appliance.controller.pod_reading import restarted_after, stop_grace

CLAIMED = datetime(2026, 11, 28, 22, 45, 17, 130827, tzinfo=UTC)


@pytest.mark.parametrize(
    ("started", "restarts", "after"),
    [
        ("2026-11-28T22:45:16Z", 1, False),
        ("2026-11-28T22:45:17Z", 1, True),
        ("2026-11-28T22:45:18Z", 1, True),
        ("2026-11-28T22:45:18Z", 0, False),
    ],
    ids=["before", "in the same second", "after", "never restarted"],
)
def test_a_restart_in_the_second_of_the_delivery_counts(started: str, restarts: int, after: bool) -> None:
    """A kubelet tells whole seconds: a restart half a second after the claim seems to be before it."""
    status = {"name": "sandbox", "restartCount": restarts, "state": {"running": {"startedAt": started}}}
    pod = msgspec.convert({"metadata": {"name": "p"}, "status": {"containerStatuses": [status]}}, Pod)
    assert restarted_after(pod, CLAIMED) is after


@pytest.mark.parametrize(("own", "grace"), [(None, 5), (30, 5), (5, 5), (2, 2), (0, 1)])
def test_a_stopped_pod_gets_the_time_its_template_gives_it_up_to_five_seconds(own: int | None, grace: int) -> None:
    """And never none at all: the pod's object stays until the kubelet has ended it."""
    pod = msgspec.convert({"metadata": {"name": "p"}, "spec": {"terminationGracePeriodSeconds": own}}, Pod)
    assert stop_grace(pod) == grace
