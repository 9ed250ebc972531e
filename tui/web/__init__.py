"""The flight deck in a browser (``--web``): who may in, the pages around it, and one process a visitor."""
