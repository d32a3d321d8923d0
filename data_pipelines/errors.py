"""The one exception for data that the user can mend."""


class DataError(ValueError):
    """Something is wrong with the data; the message is one line that says what and where."""
