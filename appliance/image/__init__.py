"""The container image of this very program, and the tree that a sidecar places in sandboxes: one and the same.

``libraries`` and ``tree`` collect a relocatable interpreter with its loader, libc and libraries from the running
machine beside the application; ``stub`` makes the programs that start it; ``oci`` writes archives; ``place`` copies the
tree into a volume. ``build`` is the command. Standard library only.
"""
