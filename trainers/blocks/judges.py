"""Judges: concepts made of stored embeddings, and the votes of views on them (SOVE, MaSSL)."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.errors import SpecError
from trainers.blocks.prototypes import l2

# First words of seed sequences beside those of trainers.data. The rank takes no part in them: all
# processes draw the same anchors.
ANCHORS, PATCHES = 5, 6
SCORES = 2**25  # scores held at once, 128 MiB in float32

Votes = Callable[[Tensor], Tensor]  # (m, d) unit embeddings -> (m, K) log-probabilities


class Concepts(NamedTuple):
    """K concepts, each an anchor and its judges, J members altogether.

    Attributes:
        members: (J, K, d) unit embeddings, anchors first.
        mass: (J, K), how much of a member's vote goes to its own concept; the rest is spread evenly
            over the other concepts. None means all of it (one-hot labels).
    """

    members: Tensor
    mass: Tensor | None

    def probabilities(self, z: Tensor, temp: float) -> Tensor:
        """``softmax(z D^T / temp) Y`` (SOVE, section 2.2.1): (m, d) -> (m, K), rows sum to 1.

        Y (J K, K) holds a member's mass in the column of its concept and one small number, its
        background, everywhere else. So the product is a sum over each concept's members, plus one
        number a row: 2.4 GB for 8192 concepts of nine are never built.
        """
        q = self._scores(z, temp).softmax(-1).unflatten(-1, self.members.shape[:2])  # (m, J, K)
        if self.mass is None:
            return q.sum(1)
        background = (1 - self.mass) / (self.mass.shape[1] - 1)  # (J, K)
        rest = (q * background).sum((1, 2))  # (m,)
        return (q * (self.mass - background)).sum(1) + rest[:, None]

    def log_probabilities(self, z: Tensor, temp: float) -> Tensor:
        """The logarithm of ``probabilities``, finite for any embedding."""
        if self.mass is None:
            log_q = self._scores(z, temp).log_softmax(-1)
            return log_q.unflatten(-1, self.members.shape[:2]).logsumexp(1)
        p = self.probabilities(z, temp)
        return p.clamp_min(torch.finfo(p.dtype).tiny).log()

    def _scores(self, z: Tensor, temp: float) -> Tensor:
        return cosines(z, self.members.flatten(0, 1)) / temp  # (m, J K)

    @property
    def count(self) -> int:
        """Number of members of all concepts."""
        return self.members.shape[0] * self.members.shape[1]


def embed(head: nn.Module, tokens: Sequence[Tensor]) -> list[Tensor]:
    """Unit embeddings in float32 of groups of tokens, all of one size: each (m, D) -> (m, d)."""
    return list(l2(head(torch.cat(list(tokens))).float()).chunk(len(tokens)))


def cosines(z: Tensor, rows: Tensor) -> Tensor:
    """(m, d) @ (d, n) -> (m, n) of unit embeddings, in their precision whatever the autocast."""
    with torch.autocast(z.device.type, enabled=False):
        return z @ rows.t()


def draw_anchors(
    size: int,
    anchors: int,
    tasks: int,
    seed: Sequence[int],
    how: Literal["uniform", "partition"] = "uniform",
) -> Tensor:
    """Places of the anchors of each task in a bank of ``size``: (tasks, anchors) int64.

    Args:
        size: of the bank.
        anchors: K, all different within a task.
        tasks: number of tasks.
        seed: words of which the draw is a function; every process passes the same.
        how: ``uniform``, independent draws, or ``partition``: blocks of one permutation, so that
            all tasks together use every entry at most once (MaSSL).
    """
    rng = np.random.default_rng([ANCHORS, *seed])
    if how == "partition":
        drawn = rng.permutation(size)[: tasks * anchors].reshape(tasks, anchors)
    else:
        drawn = np.stack([rng.choice(size, anchors, replace=False) for _ in range(tasks)])
    return torch.from_numpy(drawn)


def draw_patches(patches: int, index: Tensor, seed: Sequence[int]) -> Tensor:
    """One of ``patches`` places for each image, (b,) int64.

    Each is drawn from the image's own position ``index`` (b,) in the data and from ``seed``, so
    that it does not matter which process has the image.
    """
    draws = [np.random.default_rng([PATCHES, *seed, i]).integers(patches) for i in index.tolist()]
    return torch.tensor(draws, dtype=torch.int64)


@torch.no_grad()
def form_concepts(
    bank: Tensor,
    anchors: Tensor,
    judges: int,
    *,
    labels: Literal["soft", "one_hot"] = "soft",
    smoothing: float = 0.1,
    judges_from: Literal["others", "all"] = "others",
) -> Concepts:
    """Concepts of the anchors and the entries of the bank that are nearest to each.

    Args:
        bank: (n, d) unit embeddings.
        anchors: (K,) int64, their places in the bank.
        judges: members of a concept J, the anchor counted; 1 leaves it alone.
        labels: ``soft``: a judge's mass is its cosine with the anchor, within 0 and 1, and the
            anchor's is ``1 - smoothing``; or ``one_hot``: all mass is 1.
        smoothing: mass that an anchor gives away.
        judges_from: ``others``: entries that are no anchors; ``all``: any entry but the anchor
            itself.
    """
    own = bank[anchors]  # (K, d)
    members, mass = own[None], torch.full_like(own[None, :, 0], 1 - smoothing)
    if judges > 1:
        cosine, index = nearest_entries(bank, anchors, judges - 1, judges_from)  # (K, J - 1)
        members = torch.cat((members, bank[index.t()]))  # (J, K, d)
        mass = torch.cat((mass, cosine.t().clamp(0, 1)))  # (J, K)
    return Concepts(members, mass if labels == "soft" else None)


def nearest_entries(
    bank: Tensor, anchors: Tensor, count: int, judges_from: Literal["others", "all"]
) -> tuple[Tensor, Tensor]:
    """Cosines and places (K, count) of each anchor's nearest entries, see ``form_concepts``."""
    found = []
    for chunk in anchors.split(max(1, SCORES // len(bank))):
        similarity = cosines(bank[chunk], bank)  # (c, d) @ (d, n) -> (c, n)
        if judges_from == "others":
            similarity.index_fill_(1, anchors, -torch.inf)
        else:
            similarity.scatter_(1, chunk[:, None], -torch.inf)
        found.append(similarity.topk(count, 1))
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def vote_ce(z: Tensor, targets: Tensor, votes: Votes, members: int) -> Tensor:
    """Cross-entropy of each row's votes against targets: (t, m).

    Rows go through in chunks whose scores are computed again in the backward pass, so that only the
    scores of one chunk exist at any time.

    Args:
        z: (m, d) unit embeddings of the student.
        targets: (t, m, K) probabilities, without gradient.
        votes: of the embeddings, as logarithms.
        members: scores that a row has.
    """
    rows = max(1, SCORES // members)
    chunks = zip(z.split(rows), targets.split(rows, 1), strict=True)
    parts = [
        checkpoint(_ce, part, target, votes, use_reentrant=False, preserve_rng_state=False)
        for part, target in chunks
    ]
    return torch.cat(parts, 1)


def _ce(z: Tensor, targets: Tensor, votes: Votes) -> Tensor:
    return -(targets * votes(z)).sum(-1)


def cross_view_votes(
    student: Sequence[Tensor], targets: Sequence[Tensor], votes: Votes, members: int
) -> Tensor:
    """Mean over teacher views i and student views v != i of CE(target_i, votes of student_v).

    Args:
        student: per view (b, d) unit embeddings.
        targets: per teacher view (b, K) probabilities; teacher views are the first student views.
        votes: of the student, as logarithms.
        members: scores that a row has.
    """
    terms = [
        vote_ce(z, torch.stack([t for i, t in enumerate(targets) if i != v]), votes, members)
        for v, z in enumerate(student)
    ]
    return torch.cat([term.mean(1) for term in terms]).mean()


def check_concepts(
    prefix: str,
    *,
    bank: int,
    anchors: int,
    judges: int,
    tasks: int,
    judges_from: Literal["others", "all"],
    how: Literal["uniform", "partition"],
) -> None:
    """Refuse concepts for which the bank has too few entries.

    Concepts may share judges, as they do in the paper (8192 of nine members in a bank of 65,536),
    so that K of J members need K + J - 1 entries, not K J.

    Args:
        prefix: of the recipe's fields, which have the names of the other arguments.
        bank: entries.
        anchors: concepts of a task K.
        judges: members of a concept J.
        tasks: draws of anchors in a step.
        judges_from: see ``form_concepts``.
        how: see ``draw_anchors``.

    Raises:
        SpecError: something is too small, or too much is asked of the bank.
    """
    p = prefix
    if min(judges, tasks) < 1 or anchors < 4:
        raise SpecError(
            f"{p}anchors={anchors}, {p}judges={judges}, {p}tasks={tasks}: expected at least 4 "
            "anchors, 1 judge (the anchor itself) and 1 task"
        )
    free = bank - judges + 1 if judges_from == "others" else bank * (judges <= bank)
    most = min(free, bank // tasks) if how == "partition" else free
    if most < 4:
        raise SpecError(
            f"{p}bank={bank} is too small for {p}tasks={tasks} with {p}judges={judges}: choose a "
            "larger bank"
        )
    if anchors > most:
        raise SpecError(
            f"{p}anchors={anchors} with {p}judges={judges} and {p}tasks={tasks} do not fit into "
            f"{p}bank={bank}: choose at most {p}anchors={most}, or a larger {p}bank"
        )
