"""Numbers and lengths as protobuf writes them (protobuf documentation, "Encoding")."""


def varint(value: int) -> bytes:
    """Serialize a number of at least 0."""
    if value < _SHORT:
        return _VARINTS[value]
    return bytes((value & 0x7F | 0x80,)) + varint(value >> 7)


def _two_bytes(value: int) -> bytes:
    return bytes((value,)) if value < 0x80 else bytes((value & 0x7F | 0x80, value >> 7))


_SHORT = 1 << 11
_VARINTS = [_two_bytes(value) for value in range(_SHORT)]
