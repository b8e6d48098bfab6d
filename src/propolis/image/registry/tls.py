"""Whom we trust: the system's CA store, what SSL_CERT_FILE and SSL_CERT_DIR add, and certs.d for single registries."""

import os
import ssl
from collections.abc import Callable

import truststore

from propolis.errors import InvalidArgument
from propolis.image.registry.files import certificate_directories


def context(domain: str, *, insecure: bool) -> ssl.SSLContext:
    """For connections to the registry `domain` and to where it sends us.

    Raises:
        InvalidArgument: a certificate on this host cannot be read; the message names it.
    """
    made = ssl.create_default_context() if insecure else truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    _add_environment(made)
    for place in certificate_directories(domain):
        for path in sorted(place.glob("*.crt")):
            _add(str(path), lambda path=path: made.load_verify_locations(path))  # type: ignore[misc]
        for path in sorted(place.glob("*.cert")):
            key = path.with_suffix(".key")
            _add(str(path), lambda path=path, key=key: made.load_cert_chain(path, key))  # type: ignore[misc]
    return made


def context_for_proxies() -> ssl.SSLContext:
    """For proxies that speak TLS themselves: they get no certificate that is meant for a registry.

    Raises:
        As `context`.
    """
    made = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _add_environment(made)
    return made


def _add_environment(made: ssl.SSLContext) -> None:
    bundle, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if bundle or directory:
        _add(bundle or "", lambda: made.load_verify_locations(bundle or None, directory or None))


def _add(what: str, load: Callable[[], object]) -> None:
    try:
        load()
    except (OSError, ssl.SSLError) as error:
        raise InvalidArgument(
            f"{what} holds no certificates that can be read: {error.strerror or error}", hint="correct or remove it"
        ) from error
