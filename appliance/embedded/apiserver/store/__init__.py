"""The store: objects in memory and in SQLite, one resourceVersion, group commit, and the history behind watches."""
