"""The REST verbs: each module reads one request and answers it."""
