"""Backends: a boot plan becomes a running machine."""
