"""The ``Table`` form of lists: what ``kubectl get`` prints."""
