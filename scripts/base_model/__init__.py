"""How the tiny base model was made: the stand-in for an instruct VLM, and for the CLIP that RALI
starts from.
"""
