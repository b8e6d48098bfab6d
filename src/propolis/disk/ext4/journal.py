"""PLACEHOLDER until the author of the real one writes it."""


def blocks_for(size: int) -> int:
    raise NotImplementedError


def superblock(blocks: int, uuid: bytes) -> bytes:
    raise NotImplementedError
