"""Pieces of `experiments.bakeoff`: what is compared, who trains it, scores, pictures, words."""
