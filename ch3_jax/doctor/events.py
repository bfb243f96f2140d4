"""TensorBoard events without TensorFlow: the scalars of a file, up to where it was cut.

An events file is a sequence of TFRecord frames, each a protobuf message `Event`; of the wire format only
varints (0), 64 bits (1), lengths (2) and 32 bits (5) occur. The fields that matter:

  Event   { 1: wall time, 2: step, 5: Summary, 7: SessionLog { 1: status } }
  Summary { 1: Value { 1: tag, 2: float, 8: Tensor { 1: dtype, 4: bytes, 5: floats, 6: doubles } } }
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from ch3_jax.data.readers.tfrecord import read_records
from ch3_jax.errors import InputError

_FLOAT, _DOUBLE, _HALF, _BFLOAT16 = 1, 2, 19, 14
_START = 1
Records = list[tuple[int, dict[str, float]]]


def read_events(path: Path, before: Records | None = None) -> tuple[Records, list[str]]:
    """The scalars of one file.

    Args:
      path: the file.
      before: records of earlier files of the same run; what a restart made again is taken out of them.

    Returns:
      ([(step, {tag: value})], notes): `before` and what this file adds.

    Raises:
      InputError: not one record can be read.
    """
    records = list(before or ())
    notes: list[str] = []
    count = 0
    try:
        for frame in read_records(path):
            count += 1
            step, values, restarted = _event(frame)
            if restarted and step > 0:
                records = [record for record in records if record[0] < step]
                notes.append(f"resumed at step {step:,}")
            if values:
                records.append((step, values))
    except (InputError, struct.error, IndexError) as error:
        if not count:
            raise
        reason = "cut off" if "cut off" in str(error) else "damaged"
        notes.append(f"{path.name} is {reason} after record {count:,}; it is read up to there")
    return records, notes


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: (number, an integer or the raw bytes).

    >>> list(fields(bytes([0x10, 0x96, 0x01])))
    [(2, 150)]
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(message, at)
        else:
            if kind == 2:
                size, at = _varint(message, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise struct.error(f"wire type {kind}")
            value = message[at : at + size]
            if len(value) < size:
                raise struct.error("a field that ends behind its message")
            at += size
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _event(frame: bytes) -> tuple[int, dict[str, float], bool]:
    """(step, tag -> value, whether a session starts here)."""
    step, values, restarted = 0, {}, False
    for number, value in fields(frame):
        if number == 2:
            step = value if value < 1 << 63 else value - (1 << 64)
        elif number == 5:
            for inner, raw in fields(value):
                if inner == 1:
                    tag, scalar = _value(raw)
                    if scalar is not None:
                        values[tag] = scalar
        elif number == 7:
            restarted = (1, _START) in list(fields(value))
    return step, values, restarted


def _value(message: bytes) -> tuple[str, float | None]:
    tag, scalar = "", None
    for number, value in fields(message):
        if number == 1:
            tag = value.decode("utf-8", "replace")
        elif number == 2:
            scalar = struct.unpack("<f", value)[0]
        elif number == 8:
            scalar = _tensor(value)
    return tag, scalar


def _tensor(message: bytes) -> float | None:
    """The number of a tensor of one float; None for text, images and everything else."""
    dtype, content, numbers = _FLOAT, b"", []
    for number, value in fields(message):
        if number == 1:
            dtype = value
        elif number == 4:
            content = value
        elif number == 5:
            numbers += struct.unpack(f"<{len(value) // 4}f", value)
        elif number == 6:
            numbers += struct.unpack(f"<{len(value) // 8}d", value)
    size = {_FLOAT: 4, _DOUBLE: 8, _HALF: 2, _BFLOAT16: 2}.get(dtype)
    if size is not None and len(content) == size:
        if dtype == _BFLOAT16:  # the upper half of a float32
            return struct.unpack("<f", b"\0\0" + content)[0]
        return struct.unpack("<" + {_FLOAT: "f", _DOUBLE: "d", _HALF: "e"}[dtype], content)[0]
    return float(numbers[0]) if size is not None and len(numbers) == 1 else None
