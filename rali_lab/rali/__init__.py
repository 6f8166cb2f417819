"""RALI: an image encoder aligned with the reasoner's texts, compressed, and scored against basis
vectors.

`align` trains the encoder contrastively with the rationales, `basis` holds the compression and the
score, `scorer` the estimator that is fitted, saved and loaded.
"""
