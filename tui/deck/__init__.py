"""The application in layers: what it knows, how one moves about in it, what can be read; ``tui.app`` is the whole."""
