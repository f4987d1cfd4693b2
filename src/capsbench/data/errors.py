"""What goes wrong with data."""


class DataError(RuntimeError):
    """Data that is missing, unreadable or not what it should be; the message says what to do."""
