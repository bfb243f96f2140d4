"""What others made known, and adapters that run peers beside this project."""
