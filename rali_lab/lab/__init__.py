"""The laboratory bench: artefacts, provenance, checks, claims and the notebook runner.

Nothing here knows about pictures or models: `rali_lab.lab.artifacts.ArtifactStore` serves any project.
"""
