"""Errors that a person can act on."""


class UserError(ValueError):
    """Something outside the program is wrong. The message is one sentence or two: what is wrong, and what to do."""
