"""The doctor: the seven checks of a run that does not train, and one verdict."""
