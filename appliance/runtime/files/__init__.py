"""The REST half of the file service: ``GET``/``POST /files`` and ``POST /files/compose``."""
