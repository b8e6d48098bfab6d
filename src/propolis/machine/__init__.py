"""Machines: the only room where image, disk, guest, hypervisor and agent meet."""
