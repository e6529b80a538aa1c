"""What can go wrong with the embedded stack, said to the person who started it."""


class StackError(Exception):
    """The stack cannot start or go on. The text says what is wrong and what to do; it holds no secret."""
