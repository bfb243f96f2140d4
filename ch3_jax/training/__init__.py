"""The update, its optimizer, its loop and its checkpoints. Imports no policy, loss or data set."""
