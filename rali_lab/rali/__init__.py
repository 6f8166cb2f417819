"""RALI: an image tower aligned with the reasoner's texts, compressed, and scored against basis
vectors.

`align` trains the tower by contrast with the rationales, `basis` holds the compression and the
score, `tower` the image side alone, `scorer` the estimator that is fitted, saved, loaded and asked.
"""
