"""An OCI image: from a place on the host to verified blobs and a tree of entries per layer."""
