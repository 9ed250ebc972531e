"""Programs beside a container's own: hooks and exec probes (status only), and the streams of ``kubectl exec``."""

from __future__ import annotations

import asyncio
import os

from appliance.embedded.node.cgroups import Group
from appliance.embedded.node.process_ids import ProcessId
from appliance.embedded.node.request import Command, Exec
from appliance.embedded.node.templateclient import Running, TemplateClient, TemplateFailed, null_descriptor


class Executor:
    """Through the template process."""

    def __init__(self, template: TemplateClient, isolated: bool) -> None:
        self._template = template
        self._isolated = isolated

    def request(self, process: ProcessId, group: Group | None, command: Command, tty: bool = False) -> Exec:
        """The message for the template."""
        paths = group.paths if group is not None else {}
        return Exec(process.pid, process.start, paths, command, tty, self._isolated)

    async def start(self, request: Exec, stdin: int, stdout: int, stderr: int) -> Running:
        """Run with these descriptors. Raises ``TemplateFailed``."""
        return await self._template.execute(request, stdin, stdout, stderr)

    async def status(self, process: ProcessId, group: Group | None, command: Command, timeout: float) -> int:
        """Exit status of a program, output thrown away; 124 after ``timeout`` seconds, 126 when it cannot start."""
        null = null_descriptor()
        try:
            running = await self.start(self.request(process, group, command), null, null, null)
        except TemplateFailed:
            return 126
        finally:
            os.close(null)
        try:
            return await asyncio.wait_for(running.wait(), timeout)
        except TimeoutError:
            return 124
        except TemplateFailed:
            return 126
        finally:
            running.close()
