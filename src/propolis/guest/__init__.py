"""What boots: kernel, initramfs with our own init, command line."""
