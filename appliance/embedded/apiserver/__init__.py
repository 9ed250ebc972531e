"""The embedded API server: a Kubernetes API for one box, on SQLite. ``main.run`` starts it; see ``server``."""
