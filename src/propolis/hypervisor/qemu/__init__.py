"""The QEMU backend: anywhere, also with no hypervisor at all."""
