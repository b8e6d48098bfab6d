"""Hyper-V sockets on Pythons that do not know the address family yet (before 3.12)."""
