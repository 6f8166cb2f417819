"""The networks: image towers, the CLIP that is aligned, and the vision-language model."""

SCORE_QUESTION = "Rate the quality of this picture."
"""The question that the tiny base models were pretrained on (`scripts.base_model`)."""
