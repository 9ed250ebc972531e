"""The Domain Name System as far as the box needs it: one question, its answer (RFC 1035), and a client that asks.

``wire.py`` is pure; ``lookup.py`` asks. Used by the resolver of the box's domain (``box/resolver.py``) and by
the filter of sandboxes with domain rules (``embedded/filter/``).
"""
