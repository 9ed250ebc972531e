"""The supervisor of a sandbox: what it forks, how it is asked, and its loop."""
