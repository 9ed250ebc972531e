"""``--role=manager``: the E2B control API, stateless, with the gateway beside it.

Read ``main.py`` first (what is wired to what), then ``app.py`` (from request to blueprint), ``roster.py`` (which
sandboxes exist, as the API sees them), ``create.py`` and ``lifecycle.py`` (what may happen to one).
"""
