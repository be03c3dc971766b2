class PPCDError(ValueError):
    """A mistake that its message lets the user mend: what was wrong, what was
    expected, what to do.

    The tools print a line for each message and exit with code 2. Any other
    exception is a fault of the program, and keeps its traceback.

    Args:
        *problems (str): One message each.
    """

    def __str__(self) -> str:
        return '; '.join(map(str, self.args))
