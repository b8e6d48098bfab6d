"""What a server wants for authentication: the fields WWW-Authenticate of its answer.

Pure. Follows RFC 9110, 11.2 and 11.6.1: a list of challenges, each a scheme with a token68 or with parameters. Reading
ends at what breaks the grammar; what came before it counts.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_MAX_TEXT = 16 << 10
_MAX_CHALLENGES = 16
_MAX_PARAMETERS = 32

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_GAP = re.compile(r"[ \t,]*")
_SCHEME = re.compile(rf"({_WORD})(?=[ \t,]|$)[ \t]*")
_PARAMETER = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:({_WORD})|"((?:[^"\\]|\\.)*)")[ \t]*(?=,|$)')
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a server offers; scheme and names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(fields: Iterable[str]) -> tuple[Challenge, ...]:
    """The challenges in all fields of one answer, in order."""
    found = [challenge for text in fields if len(text) <= _MAX_TEXT for challenge in _challenges(text)]
    return tuple(found[:_MAX_CHALLENGES])


def _challenges(text: str) -> Iterator[Challenge]:
    position = _end(_GAP, text, 0)
    while position < len(text) and (scheme := _SCHEME.match(text, position)):
        parameters: dict[str, str] = {}
        position = scheme.end()
        token = _TOKEN68.match(text, position)
        if token and not _PARAMETER.match(text, position) and not _SCHEME.fullmatch(token[0]):
            position = token.end()
        else:
            while len(parameters) <= _MAX_PARAMETERS and (found := _PARAMETER.match(text, _end(_GAP, text, position))):
                value = found[2] if found[2] is not None else _ESCAPE.sub(r"\1", found[3])
                parameters.setdefault(found[1].lower(), value)
                position = found.end()
        yield Challenge(scheme[1].lower(), parameters)
        position = _end(_GAP, text, position)


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return position if found is None else found.end()
