"""The one error of actions themselves."""


class Refused(Exception):
    """The object is in no state for that, or the argument will not do; the message says why."""
