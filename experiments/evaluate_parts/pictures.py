"""Pictures of the first, the median and the worst episode, drawn by driving their actions again.

Only scores are kept while fifty worlds run; three of them are then started from the same seed and given the
same actions, and drawn. A simulator that is not deterministic shows another episode, and the
difference of the scores is said.
"""

from pathlib import Path

import numpy as np

from ch3_jax.evaluation.driving import Outcome, notable
from ch3_jax.evaluation.simulators.task import Task

_COLUMNS, _MOST, _GIF_SKIP = 8, 150, 4


def write(task: Task, outcomes: list[Outcome], out: Path, which: str) -> list[str]:
    """contact_sheet.png and, with `which` "all", episodes.mp4 or .gif.

    Returns:
      Sentences: which files, or why there are none. Pictures are no reason to lose an evaluation.
    """
    chosen = notable(outcomes)
    longest = max(len(o.actions) for o in chosen.values())
    skip = max(-(-longest // (_MOST if which == "all" else 4 * _COLUMNS)), 1)
    try:
        films, notes = {}, []
        for name, outcome in chosen.items():
            films[name], score = film(task, outcome, skip)
            if abs(score - outcome.score) > 1e-3:
                notes.append(f"{name} episode: scored {outcome.score:.3f}, {score:.3f} when driven again")
    except Exception as error:  # a display that is not there is reported in as many ways as there are drivers
        return [f"no pictures: {type(error).__name__}: {error}"[:200]]
    _sheet(
        films, {name: _title(name, outcome) for name, outcome in chosen.items()}, out / "contact_sheet.png"
    )
    notes.append("contact_sheet.png: first, median and worst episode")
    if which == "all":
        notes += _video(films, task.rate_hz / skip, out)
    return notes


def film(task: Task, outcome: Outcome, skip: int = 1) -> tuple[list[np.ndarray], float]:
    """(pictures of every `skip`th step of an episode and of its last, its score when driven again)."""
    world = task.make()
    try:
        world.reset(outcome.seed)
        frames, score = [world.draw()], 0.0
        for i, action in enumerate(outcome.actions):
            seen = world.step(action)
            score = max(score, seen.score)
            if (i + 1) % skip == 0 or i + 1 == len(outcome.actions):
                frames.append(world.draw())
    finally:
        world.close()
    return frames, score


def _title(name: str, o: Outcome) -> str:
    done = "done" if o.success else "not done"
    return f"{name}: seed {o.seed}, {done}, score {o.score:.2f}, {o.length} steps"


def _sheet(films: dict[str, list[np.ndarray]], titles: dict[str, str], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * _COLUMNS, 2.3 * len(films)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.2, rect=(0, 0, 1, 0.97))
    rows = figure.subplots(len(films), _COLUMNS, squeeze=False)
    for (name, frames), axes in zip(films.items(), rows, strict=True):
        at = np.linspace(0, len(frames) - 1, _COLUMNS).round().astype(int)
        for i, cell in zip(at, axes, strict=True):
            cell.imshow(frames[i])
            cell.set_axis_off()
        # No part of the layout, which would make room for the whole line in the first column.
        axes[0].text(0, 1.05, titles[name], transform=axes[0].transAxes, fontsize=13, in_layout=False)
    figure.savefig(path, dpi=80)


def _video(films: dict[str, list[np.ndarray]], rate_hz: float, out: Path) -> list[str]:
    """The three side by side, each standing still where it has ended."""
    length = max(len(frames) for frames in films.values())
    rows = [np.stack([f[min(i, len(f) - 1)] for f in films.values()]) for i in range(length)]
    frames = [np.concatenate(list(row), axis=1) for row in rows]
    for codec in ("libx264", "mpeg4"):
        path = out / "episodes.mp4"
        try:
            encode(frames, rate_hz, codec, path)
            return ["episodes.mp4: the same three, side by side"]
        except Exception as error:  # a build of FFmpeg without this codec
            path.unlink(missing_ok=True)
            reason = f"{type(error).__name__}: {error}"
    return [f"no codec for mp4 ({reason[:80]}); {_gif(frames, rate_hz, out / 'episodes.gif')}"]


def encode(frames: list[np.ndarray], rate_hz: float, codec: str, path: Path) -> None:
    """Writes an mp4 by PyAV.

    Args:
      frames: of (height, width, 3) uint8, height and width even.
      rate_hz: frames per second, rounded.
      codec: "libx264" or "mpeg4".
      path: the file.

    Raises:
      Exception: whatever PyAV raises, such as for a codec that it was not built with.
    """
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=max(round(rate_hz), 1))
        stream.height, stream.width = (n - n % 2 for n in frames[0].shape[:2])
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            cut = np.ascontiguousarray(frame[: stream.height, : stream.width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")))
        container.mux(stream.encode())


def _gif(frames: list[np.ndarray], rate_hz: float, path: Path) -> str:
    from PIL import Image  # comes with matplotlib

    images = [Image.fromarray(frame).quantize(64) for frame in frames[::_GIF_SKIP]]
    time_ms = round(1e3 * _GIF_SKIP / rate_hz)
    images[0].save(path, save_all=True, append_images=images[1:], duration=time_ms, loop=0)
    return "episodes.gif instead, every fourth step"
