"""After a start: sandboxes that the manager before this one had taken, and was killed before it could answer for."""

from __future__ import annotations

import logging

from appliance.claims.pledges import Pledges
from appliance.kube.errors import KubeError
from appliance.manager.errors import Fault
from appliance.manager.lifecycle import Lifecycle
from appliance.manager.roster import Roster

logger = logging.getLogger(__name__)


async def clear(pledges: Pledges, roster: Roster, lifecycle: Lifecycle) -> int:
    """Kill them; how many there were. One that cannot be killed now stays among the pledges for the next start."""
    killed = 0
    for sandbox_id in sorted(pledges.recover()):
        entry = roster.get(sandbox_id)
        try:
            if entry is not None:
                await lifecycle.kill(entry)
                killed += 1
                logger.warning("sandbox %s was taken by a manager that died before it answered: killed", sandbox_id)
        except Fault:
            pass  # gone already
        except KubeError as error:
            logger.error("sandbox %s was taken and never answered for, and cannot be killed: %s", sandbox_id, error)
            continue
        pledges.close(sandbox_id)
    return killed
