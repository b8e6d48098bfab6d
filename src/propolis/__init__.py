"""Run any OCI container image as a microVM."""
