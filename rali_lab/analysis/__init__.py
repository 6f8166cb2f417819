"""Representation analysis that can be trusted: every number with its null, its interval and its
warnings.

Arrays are (n_samples, n_features), numpy or torch; sums are taken in float64. Importing it loads
NumPy only; SciPy, pandas, matplotlib and umap are imported by the functions that use them. Measures
are pure functions; `significance` adds null and interval to a similarity, `domain_gap` to a
distance between domains, `compare` runs everything on a dict of arrays.
"""

from .cca import cca, cca_correlations, svcca
from .compare import Comparison, compare
from .decode import decode_domain, decode_score
from .dimension import (
    effective_rank,
    mle_dimension,
    participation_ratio,
    pca_dimension,
    spectrum,
    two_nn,
)
from .domain_gap import domain_gap, pairwise_domain_gaps
from .gaps import frechet_distance, knn_mixing, mmd, silhouette
from .inputs import AnalysisWarning
from .modality import alignment, close_gap, modality_gap, uniformity
from .neighbours import cknna, mutual_knn
from .projection import Projection, continuity, project, trustworthiness
from .proxy_a import proxy_a_distance
from .result import Measure
from .significance import significance
from .similarity import cka, procrustes, rsa
from .streaming import StreamingCKA, minibatch_cka

__all__ = [
    "AnalysisWarning",
    "Comparison",
    "Measure",
    "Projection",
    "StreamingCKA",
    "alignment",
    "cca",
    "cca_correlations",
    "cka",
    "cknna",
    "close_gap",
    "compare",
    "continuity",
    "decode_domain",
    "decode_score",
    "domain_gap",
    "effective_rank",
    "frechet_distance",
    "knn_mixing",
    "minibatch_cka",
    "mle_dimension",
    "mmd",
    "modality_gap",
    "mutual_knn",
    "pairwise_domain_gaps",
    "participation_ratio",
    "pca_dimension",
    "procrustes",
    "project",
    "proxy_a_distance",
    "rsa",
    "significance",
    "silhouette",
    "spectrum",
    "svcca",
    "trustworthiness",
    "two_nn",
    "uniformity",
]
