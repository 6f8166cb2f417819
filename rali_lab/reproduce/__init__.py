"""Artefacts, provenance, checks, claims, the notebook runner, and what a machine can run.

Nothing here knows of models: `rali_lab.reproduce.store.ArtifactStore` serves any project.
"""
