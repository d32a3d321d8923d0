"""Metrics of ranks. Each is a mean over events, in float64 (`metric_sums`).

recall@k   share of events with rank <= k
mrr        mean of 1 / rank
ndcg@10    mean of 1 / log2(1 + rank) where rank <= 10, else 0
mrp        mean of rank / number of items ranked
"""

import numpy as np

RECALL_AT = (1, 5, 10, 20)
NDCG_AT = 10
METRICS = (*(f"recall@{k}" for k in RECALL_AT), "mrr", f"ndcg@{NDCG_AT}", "mrp")


def metric_terms(rank_n: np.ndarray, size_n: np.ndarray) -> np.ndarray:
    """What each event adds to the sums: its METRICS, and 1 to the number of events."""
    gain_n = np.where(rank_n <= NDCG_AT, 1 / np.log2(1 + rank_n), 0)
    hits = [rank_n <= k for k in RECALL_AT]
    return np.stack([*hits, 1 / rank_n, gain_n, rank_n / size_n, np.ones(len(rank_n))], -1)
