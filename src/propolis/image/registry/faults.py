"""The HTTP library's faults as ours: whose fault it is, what to do, and whether it may go well another time."""

import contextlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from urllib3 import exceptions as library

from propolis.errors import RegistryError, RegistryUnreachable
from propolis.host.directories import configuration_directory
from propolis.image.registry.address import Address
from propolis.image.registry.retry import Transient

_QUICK_ATTEMPTS = 2
"""Where nothing answers at all, there is little hope."""
_Error = TypeVar("_Error", bound=BaseException)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What OpenSSL, by its version, makes of an answer in plain HTTP."""
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")


@contextlib.contextmanager
def faults(address: Address, *, is_answered: bool = False) -> Iterator[None]:
    """For what is done with the library; `is_answered`: the connection stands, and an answer has begun.

    Raises:
        Transient: no connection, or it broke.
        RegistryUnreachable: a server that cannot be trusted, or a proxy that refuses.
        RegistryError: the library cannot ask for this address.
    """
    where = address.shown
    try:
        yield
    except library.ProxyError as error:
        raise _no_proxy(where, error) from error
    except (library.ConnectTimeoutError, library.SSLError) as error:
        raise (_broken(where, error) if is_answered else _no_connection(where, error)) from error
    except (library.TimeoutError, TimeoutError) as error:
        raise Transient(
            RegistryUnreachable(f"{where} went silent", hint="check the network, or try again later")
        ) from error
    except (library.LocationValueError, UnicodeError) as error:
        raise RegistryError(f"{where} cannot be asked: {_reason(error)}") from error
    except (library.HTTPError, OSError) as error:
        raise _broken(where, error) from error


def _broken(where: str, error: Exception) -> Transient:
    return Transient(RegistryUnreachable(f"the connection to {where} broke: {_reason(error)}", hint="try again later"))


def _no_connection(where: str, error: Exception) -> Exception:
    if _speaks_no_tls(error):
        return RegistryUnreachable(
            f"{where} answers, but does not speak TLS",
            hint=f"if that is meant, say so in {configuration_directory() / 'registries.conf'}: [[registry]] with"
            f' location = "{where}" and insecure = true, a line each',
        )
    found = _cause(error, ssl.SSLCertVerificationError)
    if found is not None:
        return RegistryUnreachable(
            f"{where} cannot be trusted: {found.verify_message or _reason(found)}",
            hint=f"name its CA in SSL_CERT_FILE, or put it into the system's store or {_certificates(where)}/ca.crt",
        )
    is_late = isinstance(error, library.ConnectTimeoutError) and not isinstance(error, library.NewConnectionError)
    what = "no answer in time" if is_late else _reason(error)
    return Transient(
        RegistryUnreachable(f"no connection to {where}: {what}", hint="check the name, the network and HTTPS_PROXY"),
        attempts=_QUICK_ATTEMPTS,
    )


def _certificates(where: str) -> Path:
    return configuration_directory() / "certs.d" / where


def _no_proxy(where: str, error: library.ProxyError) -> Exception:
    what = _reason(error.original_error)
    if isinstance(error.original_error, library.ConnectTimeoutError):
        return Transient(
            RegistryUnreachable(f"no connection to the proxy on the way to {where}: {what}", hint="check HTTPS_PROXY"),
            attempts=_QUICK_ATTEMPTS,
        )
    return RegistryUnreachable(
        f"the proxy on the way to {where} refuses: {what}", hint="check HTTPS_PROXY and NO_PROXY"
    )


def _speaks_no_tls(error: Exception) -> bool:
    found = _cause(error, ssl.SSLError)
    return found is not None and found.reason in _NO_TLS


def _cause(error: BaseException, kind: type[_Error]) -> _Error | None:
    """The error of that kind which led to this one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__cause__ or cause.__context__
    return cause


def _reason(error: BaseException) -> str:
    """What an error says; if it comes from the library, what the system said to that."""
    while isinstance(error, library.HTTPError) and (error.__cause__ or error.__context__):
        error = error.__cause__ or error.__context__ or error
    text = _ERRNO.sub("", " ".join(str(error).split()))
    return "".join(filter(str.isprintable, text[:200])) or type(error).__name__
