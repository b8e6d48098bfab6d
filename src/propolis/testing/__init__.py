"""Doubles and contract suites for users and for authors of backends."""
