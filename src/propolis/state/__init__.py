"""What must be remembered about machines between processes."""
