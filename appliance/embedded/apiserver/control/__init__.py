"""The loops a cluster needs besides its API: garbage collection, namespace clean-up, event expiry, CRD serving."""
