"""The command line in parts: one module per topic, each of which registers its own subcommands.

``appliance.cli`` puts them together. A module here has ``register(commands)``, which adds its parsers and sets the
``run`` of each to a function of the parsed options that returns the exit code. At its top it imports only the standard
library and settings; what a command needs, it imports inside the function that runs it. A new command is a new module
and its name in ``MODULES``. ``roles`` and ``flags`` are about ``--role``, ``targets`` says which box or cluster is
meant.
"""

MODULES = ("box", "domain", "image", "install", "bundle", "doctor")
"""In the order of ``appliance --help``."""
