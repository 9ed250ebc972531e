"""The data plane: one public socket in front of every sandbox and of the control API.

The gateway is a library of ``--role=manager``. It knows nothing of Kubernetes: whoever starts it hands in a ``Routes``
(sandbox id → address) and the Unix socket of the control API. Read ``server.py`` first, then ``client.py`` (one public
connection), ``exchange.py`` (one request and its answer) and ``upstream.py`` (one connection to a sandbox).
"""

from appliance.gateway.routes import Refusal, Route, Routes
from appliance.gateway.server import Gateway
from appliance.gateway.stats import Stats

__all__ = ["Gateway", "Refusal", "Route", "Routes", "Stats"]
