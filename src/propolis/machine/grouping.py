"""Task groups wrap what is raised in them; callers of a machine want the error itself."""

import contextlib
from collections.abc import Iterator

from propolis.errors import PropolisError


@contextlib.contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the error inside an exception group in the group's place.

    Of several, one of ours comes before others, as it says what went wrong; the group stays its `__context__`.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        raise next((leaf for leaf in leaves if isinstance(leaf, PropolisError)), leaves[0]) from group


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
