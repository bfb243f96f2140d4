"""Simulators on machines without a display: what is set before any of them is imported."""

import ctypes.util
from collections.abc import MutableMapping


def headless(environment: MutableMapping[str, str]) -> list[str]:
    """Asks SDL for no window and MuJoCo for EGL, or for no pictures where there is no EGL.

    Args:
      environment: `os.environ`, which the simulators' processes inherit; what somebody has set stays.

    Returns:
      A sentence where something falls back, for the page.
    """
    environment.setdefault("SDL_VIDEODRIVER", "dummy")
    environment.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    if "MUJOCO_GL" in environment:
        return []
    there = ctypes.util.find_library("EGL") is not None
    environment["MUJOCO_GL"] = "egl" if there else "off"
    return [] if there else ["no EGL library here: MuJoCo runs without pictures (Debian: libegl1 and Mesa)"]
