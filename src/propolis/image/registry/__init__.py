"""Images in registries: the OCI distribution protocol, and everything around it that lets a pull succeed.

`source.RegistrySource` is the entry; `name`, `challenge`, `configuration` and `retry` do no network I/O.
"""
