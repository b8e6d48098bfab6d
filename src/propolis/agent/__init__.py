"""The stream between host and guest: processes, their streams, shutdown."""
