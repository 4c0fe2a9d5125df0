"""SOVE's votes as its paper writes them, in float64 loops, with Y in full; and fixed banks."""

import numpy as np
import torch

from tests.trainers.goldens import normal
from tests.trainers.tiny import softmax64
from trainers.blocks.bank import Bank


def concepts64(
    bank: np.ndarray,
    anchors: list[int],
    judges: int,
    labels: str = "soft",
    smoothing: float = 0.1,
    judges_from: str = "others",
) -> tuple[np.ndarray, np.ndarray]:
    """D (K * judges, d), concept by concept, and Y (K * judges, K)."""
    k = len(anchors)
    members, rows = [], []
    for i, anchor in enumerate(anchors):
        taken = set(anchors) if judges_from == "others" else {anchor}
        others = [e for e in range(len(bank)) if e not in taken]
        others.sort(key=lambda e: -float(bank[e] @ bank[anchor]))
        for entry in [anchor, *others[: judges - 1]]:
            cosine = min(max(float(bank[entry] @ bank[anchor]), 0.0), 1.0)
            own = 1 - smoothing if entry == anchor else cosine
            own = 1.0 if labels == "one_hot" else own
            row = np.full(k, (1 - own) / (k - 1))
            row[i] = own
            members.append(bank[entry])
            rows.append(row / row.sum())
    return np.stack(members), np.stack(rows)


def votes64(z: np.ndarray, members: np.ndarray, labels: np.ndarray, temp: float) -> np.ndarray:
    """P(z) = softmax(z D^T / temp) Y: (m, K)."""
    return softmax64(z @ members.T / temp) @ labels


def unit64(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@torch.no_grad()
def fill_bank(bank: Bank, seed: int) -> None:
    """Give a bank rows that are the same on every machine."""
    rows = normal(seed, *bank.rows.shape).to(bank.rows)
    bank.rows.copy_(rows / rows.norm(dim=1, keepdim=True))
