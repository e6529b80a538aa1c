"""Error of the local stack, with a message for its user."""


class StackError(Exception):
    """The stack cannot start or continue. The message names problem and remedy and holds no secret."""
