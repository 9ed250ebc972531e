"""Delivering sandboxes: one engine that the manager and the SandboxClaim controller share.

A claim is one guarded write to the API server and one call to the runtime. Start reading in ``engine.py``.
"""
