"""Where changes come from: a live cluster, or a recording of one."""
