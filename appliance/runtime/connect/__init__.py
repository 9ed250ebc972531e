"""Connect RPC: framing, codecs and dispatch, without any knowledge of the services."""
