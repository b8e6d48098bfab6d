"""The ext4 file system, written in one pass."""
