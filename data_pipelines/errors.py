"""The one exception for data that the user can fix."""


class DataError(ValueError):
    """Something is wrong with the data. The message is one line that says what and where."""
