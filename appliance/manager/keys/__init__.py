"""API keys: who a request comes from, and which namespace (team) it may see."""
