"""The flight deck: a live terminal screen for pools, claims and sandboxes (``appliance --role=tui``).

Data flows one way. ``feed`` turns watches (or a recording) into ``Change`` values; ``model`` reduces them into a
``World`` with no clock of its own and no I/O; ``view`` modules turn the world into rows; ``screens`` paint what changed
on a timer, never per event. ``act`` is the one table of actions, from which bindings, command line, palette and help
are made. Only ``feed`` and ``act`` talk to the cluster, through ``appliance.kube``.
"""
