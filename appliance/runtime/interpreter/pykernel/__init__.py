"""The Python kernel process: ipykernel, built before the fork and given its sockets after it."""
