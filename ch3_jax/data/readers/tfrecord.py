"""The TFRecord frame: a length, its checksum, the bytes, their checksum.

A file is a sequence of frames

    length: uint64 | mask(crc32c(length)): uint32 | data: length bytes | mask(crc32c(data)): uint32

with `mask(c) = rotate_right(c, 15) + 0xa282ead8  (mod 2**32)`, all little-endian. Both checksums
are verified, so a file that was cut or damaged is refused at the record where it happened, and
TensorFlow is not needed to find that out.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from ch3_jax.errors import InputError

_MASK_DELTA = 0xA282EAD8


def masked_crc(data: bytes) -> int:
    """The checksum that TFRecord stores: CRC-32C, rotated and shifted so that nested checksums differ.

    Args:
      data: any bytes.

    Returns:
      An integer in [0, 2**32).

    Example:
      >>> hex(masked_crc(b"123456789"))
      '0xc78ab0e5'

    References:
      CRC-32C check value of "123456789": 0xe3069283 (Castagnoli, 1993; RFC 3720, appendix B.4).
    """
    return _mask(_crc32c()(data))


def read_records(path: Path) -> Iterator[bytes]:
    """Streams the records of one TFRecord file, each checked against its two checksums.

    Args:
      path: the file.

    Yields:
      The bytes of each record.

    Raises:
      InputError: the file ends inside a record, or a checksum does not match.
    """
    crc, size, position, index = _crc32c(), path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while header := file.read(12):
            if len(header) < 12:
                raise _cut(path, index, position, size, "its 12-byte header")
            length, stored = struct.unpack("<QI", header)
            if stored != _mask(crc(header[:8])):
                raise _damaged(path, index, position, "length")
            if position + 16 + length > size:
                raise _cut(path, index, position, size, f"{length} bytes of data")
            data, footer = file.read(length), file.read(4)
            if struct.unpack("<I", footer)[0] != _mask(crc(data)):
                raise _damaged(path, index, position, "data")
            yield data
            position, index = position + 16 + length, index + 1


def _mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _crc32c() -> Callable[[bytes], int]:
    try:
        import google_crc32c
    except ImportError as error:
        raise InputError(
            "TFRecord files need the package google-crc32c for their checksums.",
            got=f"no google_crc32c in this environment ({error})",
            expected="google-crc32c >= 1.5",
            cause="a minimal installation",
            fix="pip install google-crc32c",
        ) from error
    return google_crc32c.value


def _cut(path: Path, index: int, position: int, size: int, missing: str) -> InputError:
    return InputError(
        f"{path} is cut off: it ends inside record {index}.",
        got=f"{size} bytes; record {index} starts at byte {position} and needs {missing}",
        expected="a whole number of TFRecord frames",
        cause="an interrupted download or copy, or a full disk while it was written",
        fix=f"copy {path.name} again and compare its size and checksum with the original",
    )


def _damaged(path: Path, index: int, position: int, part: str) -> InputError:
    return InputError(
        f"{path} is damaged: the {part} of record {index} does not match its checksum.",
        got=f"another CRC-32C than the one stored with record {index}, at byte {position}",
        expected="TFRecord frames whose masked CRC-32C match",
        cause="flipped bytes from a bad copy or disk, or no TFRecord at all (a Git LFS pointer, gzip)",
        fix=f"copy {path.name} again and compare its checksum with the original",
    )
