"""Where a score comes from: attention, knock-outs, re-rating from text, hidden states, on any
image-text-to-text model.
"""

from .attention import AttentionShare, ScoreRow, attention_share, score_rows
from .hidden_states import hidden_states
from .interventions import KNOCKOUTS, rate
from .token_groups import GROUPS, Layout, lay_out, spans

__all__ = [
    "GROUPS",
    "KNOCKOUTS",
    "AttentionShare",
    "Layout",
    "ScoreRow",
    "attention_share",
    "hidden_states",
    "lay_out",
    "rate",
    "score_rows",
    "spans",
]
