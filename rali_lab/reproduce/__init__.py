"""The laboratory bench: artefacts, provenance, checks, claims, the notebook runner and a look at
the machine.

Nothing here but `doctor` and `speed` knows about images or models:
`rali_lab.reproduce.store.ArtifactStore` serves any project.
"""
