"""Win32, as far as the seam on Windows needs it."""
