"""Real simulators behind one small interface; none is imported before it is asked for."""
