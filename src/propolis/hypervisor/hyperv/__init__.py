"""The Hyper-V backend: machines through Windows' Host Compute Service (HCS)."""
