"""``--role=all``: one process that supervises the embedded cluster, the controller and the manager as children."""
