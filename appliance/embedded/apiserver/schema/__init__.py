"""Schemas: one compiled tree for core kinds and CRDs, and the pass that prunes, defaults and checks objects with it."""
