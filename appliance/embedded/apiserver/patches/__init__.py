"""The four patch formats: merge, JSON, strategic merge and server-side apply."""
