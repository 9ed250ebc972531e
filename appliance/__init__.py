"""One file that is a cloud of code-execution sandboxes for AI agents.

The roles, their folders and what each may import are described in ``docs/seams.md``; ``appliance.cli`` picks one.
"""

__version__ = "0.1.0"
