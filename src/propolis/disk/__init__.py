"""Entries become disks: one read-only file system per layer, one small writable one per machine."""
