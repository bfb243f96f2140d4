"""Frames of a video at given times, by PyAV.

A row of a table belongs to the frame whose presentation time is

    t = from_timestamp + frame_index / fps

Counting decoded frames instead is right only while no frame is missing and every episode has a file
of its own, so frames are matched by time: the one within a quarter of a frame, or a refusal.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from ch3_jax.data.readers import common
from ch3_jax.errors import InputError

_TOLERANCE = 0.25


def decode_frames(path: Path, times: np.ndarray, fps: float) -> np.ndarray:
    """Decodes the frames shown at `times`.

    Args:
      path: a video file that PyAV can decode (AV1, H.264, ...).
      times: (T,) seconds in the file, increasing.
      fps: frames per second; a frame further than 0.25 / fps from its time is not taken.

    Returns:
      (T, height, width, 3) uint8, RGB.

    Raises:
      InputError: the file is missing, cannot be decoded, or has no frame at one of the times.
    """
    av = common.require("av", "av", "Video (LeRobot images)")
    if not path.is_file():
        raise missing_videos([path], 1)
    out: np.ndarray | None = None
    found = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if times[0] > 0:
                container.seek(int(times[0] / stream.time_base), stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.time < times[found] - _TOLERANCE / fps:
                    continue
                if frame.time > times[found] + _TOLERANCE / fps:
                    break
                picture = frame.to_ndarray(format="rgb24")
                out = np.empty((len(times), *picture.shape), np.uint8) if out is None else out
                out[found] = picture
                found += 1
                if found == len(times):
                    return out
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise common.unreadable(path, "a video that PyAV decodes", error) from error
    raise InputError(
        f"{path} has no frame at {times[found]:.3f} s.",
        got=f"{found} of the {len(times)} frames from {times[0]:.3f} to {times[-1]:.3f} s",
        expected=f"a frame within {_TOLERANCE} of a frame ({_TOLERANCE / fps:.4f} s) of each row's time",
        cause="a video that was cut off, or whose frames drift from the rows of its table",
        fix="copy the video again; if it is complete, convert the data set anew from the recording",
    )


def decode_image(data: bytes, where: str) -> np.ndarray:
    """Decodes one PNG or JPEG.

    Args:
      data: the file's bytes.
      where: for messages.

    Returns:
      (height, width, 3) uint8, RGB.

    Raises:
      InputError: it cannot be decoded.
    """
    av = common.require("av", "av", "Images (LeRobot images)")
    try:
        with av.open(io.BytesIO(data)) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24")
    except (av.FFmpegError, StopIteration, ValueError) as error:
        raise _bad_image(where, len(data), error) from error


def missing_videos(missing: list[Path], total: int) -> InputError:
    """The refusal of a set whose videos are not all there, before anything is decoded."""
    return InputError(
        f"{missing[0]} is missing, so its images cannot be read.",
        got=f"{len(missing)} of {total} video files missing",
        expected="one video file per camera and episode (v2.1) or as meta/episodes lists them (v3.0)",
        cause="a copy without its videos (they are large, and often kept in Git LFS)",
        fix="copy the missing videos, or read the set without images",
    )


def _bad_image(where: str, size: int, error: Any) -> InputError:
    return InputError(
        f"An image of {where} cannot be decoded.",
        got=f"{size} bytes; PyAV said: {error}",
        expected="a PNG or JPEG file",
        cause="flipped bytes from a bad copy",
        fix="copy the data set again and compare its checksums with the original",
    )
