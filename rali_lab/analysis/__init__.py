"""Representation analysis: every number with its null, its interval and its warnings.

Arrays are (n_samples, n_features), numpy or torch; sums are taken in float64. Importing it loads
NumPy only; SciPy, pandas, matplotlib and umap are imported by the functions that use them. Measures
are pure functions; `significance` adds null and interval to a similarity, `domain_gap` to a
distance between domains, `compare` runs everything on a dict of arrays.
"""

from rali_lab.analysis.cca import cca, cca_correlations, svcca
from rali_lab.analysis.compare import Comparison, compare
from rali_lab.analysis.decode import decode_domain, decode_score
from rali_lab.analysis.dimension import (
    effective_rank,
    mle_dimension,
    participation_ratio,
    pca_dimension,
    spectrum,
    two_nn,
)
from rali_lab.analysis.domain_gap import domain_gap, pairwise_domain_gaps
from rali_lab.analysis.gaps import frechet_distance, knn_mixing, mmd, silhouette
from rali_lab.analysis.inputs import AnalysisWarning
from rali_lab.analysis.modality import alignment, close_gap, modality_gap, uniformity
from rali_lab.analysis.neighbours import cknna, mutual_knn
from rali_lab.analysis.projection import Projection, continuity, project, trustworthiness
from rali_lab.analysis.proxy_a import proxy_a_distance
from rali_lab.analysis.significance import significance
from rali_lab.analysis.similarity import cka, procrustes, rsa
from rali_lab.analysis.streaming import StreamingCKA, minibatch_cka
from rali_lab.estimate import Estimate

__all__ = [
    "AnalysisWarning",
    "Comparison",
    "Estimate",
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
