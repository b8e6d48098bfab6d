"""What works on this host, why not, and what to do about it."""
