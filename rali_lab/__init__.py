"""rali_lab: reasoning as representation in image quality assessment, step by step and on your own
machine.
"""

__version__ = "0.1.0"
