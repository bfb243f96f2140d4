"""The mathematics of robot-policy training as pure JAX functions.

Rooms are imported when they are named, so that `import ch3_jax` costs next to nothing:

>>> import ch3_jax
>>> ch3_jax.losses.supervised.__name__
'ch3_jax.losses.supervised'
"""

import importlib
import pkgutil

__version__ = "0.1.0"
_ROOMS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no room {name!r}; it has {', '.join(_ROOMS)}")


def __dir__() -> list[str]:
    return [*_ROOMS, "__version__"]
