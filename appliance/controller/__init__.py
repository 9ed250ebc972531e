"""The controllers: one module per kind, each observe → decide (pure) → act. Start reading in ``main.py``."""
