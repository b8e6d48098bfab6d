"""Images of container engines (docker, podman) on this host, through the Docker Engine API."""
