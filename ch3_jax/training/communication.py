"""What devices say to one another in a step, counted in the compiled program.

XLA writes each exchange as an instruction with the shape of its result:

  %all-reduce.3 = f32[256,1792] all-reduce(%dot), replica_groups=..., to_apply=...

`counted` adds up the bytes of these results by kind. Theory for P bytes of gradients over N devices:

  data parallel    all-reduce of P; a ring moves 2 P (N - 1) / N through each device
  fsdp             all-gather of the divided parameters, then all-reduce of all gradients, or reduce-scatter
                   of those that are divided where the compiler writes that (XLA for CPUs does not)

An instruction inside a loop is counted once, so a program of one step is to be counted.

Reference: Rajbhandari et al. 2020, arXiv:1910.02054, section 7 (bytes of a step).
"""

import math
import re

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "f16": 2,
    "bf16": 2,
    "s32": 4,
    "u32": 4,
    "f32": 4,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
_INSTRUCTION = re.compile(rf"=\s*(?P<result>.*?)\s+(?P<kind>{'|'.join(KINDS)})(?P<start>-start)?\(")
_ARRAY = re.compile(r"\b(?P<type>[a-z]+\d*)\[(?P<shape>[\d,]*)\]")


def counted(program: str) -> dict[str, int]:
    """Bytes of the results of all exchanges, by kind.

    Args:
      program: `jitted.lower(...).compile().as_text()`.

    >>> counted("%a = f32[2,3]{1,0} all-reduce(%x), to_apply=%add")
    {'all-reduce': 24}
    >>> counted("%a = (f32[4]{0}, /*index=1*/bf16[2]{0}) all-gather(%x, %y), dimensions={0}")
    {'all-gather': 20}
    """
    found: dict[str, int] = {}
    for match in _INSTRUCTION.finditer(program):
        sizes = [_size(*array.groups()) for array in _ARRAY.finditer(match["result"])]
        # An asynchronous start gives back what it was given beside what it will have made: half of it counts.
        size = sum(sizes) // 2 if match["start"] and len(sizes) > 1 else sum(sizes)
        found[match["kind"]] = found.get(match["kind"], 0) + size
    return found


def ring(size: int, devices: int) -> float:
    """Bytes through each of N devices that all-reduce `size` bytes around a ring, 2 (N - 1) / N of it.

    >>> ring(800, 8)
    1400.0
    """
    return 2 * size * (devices - 1) / devices


def _size(kind: str, shape: str) -> int:
    return _BYTES.get(kind, 0) * math.prod(int(n) for n in shape.split(",") if n)
