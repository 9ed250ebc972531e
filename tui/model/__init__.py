"""Pure state: changes in, rows and numbers out. Nothing here reads a clock, a file or a socket."""
