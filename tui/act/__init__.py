"""Actions: one table of what can be done, and what doing it means."""
