"""Widgets of the flight deck, each with its CSS beside it."""
