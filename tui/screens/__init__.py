"""Screens: they arrange widgets, forward keys to actions and paint on a timer. State lives in the model."""
