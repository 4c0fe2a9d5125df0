"""The closed vocabulary of a decoder probe: marks, a task prompt, classes and coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.errors import SpecError


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in this order: PAD, BOS, EOS, PROMPT, one for each class, one for each coordinate bin.

    Whatever a task says in these tokens is a target sequence: a class is `[class]`, a box could be
    `[x, y, x, y, class]`, a list of boxes one after the other up to EOS.
    """

    PAD: ClassVar[int] = 0
    BOS: ClassVar[int] = 1
    EOS: ClassVar[int] = 2
    PROMPT: ClassVar[int] = 3
    MARKS: ClassVar[int] = 4

    classes: int
    bins: int = 1000

    def __post_init__(self) -> None:
        if self.classes < 0 or self.bins < 0:
            raise SpecError(f"{self.classes} classes and {self.bins} bins: neither can be negative")

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.MARKS + self.classes + self.bins

    @property
    def class_tokens(self) -> slice:
        """Where the classes stand."""
        return slice(self.MARKS, self.MARKS + self.classes)

    @property
    def coordinate_tokens(self) -> slice:
        """Where the coordinate bins stand."""
        return slice(self.MARKS + self.classes, self.size)

    def of_class(self, classes: Tensor) -> Tensor:
        """Tokens of class indices."""
        return classes + self.class_tokens.start

    def class_of(self, tokens: Tensor) -> Tensor:
        """Class indices of class tokens."""
        return tokens - self.class_tokens.start

    def of_coordinate(self, values: Tensor) -> Tensor:
        """Tokens of coordinates in [0, 1]; what lies outside takes the bin at the edge."""
        bins = (values * self.bins).floor().long().clamp(0, self.bins - 1)
        return bins + self.coordinate_tokens.start

    def coordinate_of(self, tokens: Tensor) -> Tensor:
        """The middle of each token's bin: within half a bin of what `of_coordinate` was given."""
        return (tokens - self.coordinate_tokens.start + 0.5) / self.bins

    def mask(self, *allowed: slice | int) -> Tensor:
        """(size,) true for the tokens named: `mask(v.class_tokens, v.EOS)`."""
        mask = torch.zeros(self.size, dtype=torch.bool)
        for tokens in allowed:
            mask[tokens] = True
        return mask
