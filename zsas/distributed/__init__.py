"""The same work on many processes or machines."""
