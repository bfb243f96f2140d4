"""Tasks as pure functions: `reset`, `step`, `observe`, vmapped by the thousand."""
