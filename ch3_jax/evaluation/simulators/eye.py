"""Pictures of a MuJoCo model without shadows, reflections and multisampling, nine tenths of the time.

Meta-World at 96 pixels draws 11 pictures a second as shipped and 171 without them, of the same scene.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

HEIGHT, WIDTH = 240, 320


def open_eye(model: Any, data: Any, camera: str) -> tuple[Callable[[], np.ndarray], Callable[[], None]]:
    """(draw, close) of a model's camera; nothing of OpenGL is touched before the first picture.

    Args:
      model, data: `mujoco.MjModel` and `mujoco.MjData`.
      camera: its name.

    Returns:
      draw: () -> (240, 320, 3) uint8; RuntimeError where MuJoCo was started without OpenGL.
      close: () -> None; to be called before the interpreter takes the display down.
    """
    held: list[Any] = []

    def draw() -> np.ndarray:
        import mujoco

        if not held:
            if not hasattr(mujoco.gl_context, "GLContext"):
                raise RuntimeError("MuJoCo runs without OpenGL (MUJOCO_GL=off)")
            model.vis.quality.offsamples = 0
            held.append(mujoco.Renderer(model, HEIGHT, WIDTH))
        held[0].update_scene(data, camera=camera)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            held[0].scene.flags[flag] = 0
        return held[0].render().copy()

    def close() -> None:
        while held:
            held.pop().close()

    return draw, close
