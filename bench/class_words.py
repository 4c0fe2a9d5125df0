"""The names of classes as people say them: "tench" for `n01440764`."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.split import Split

WORDNET = re.compile(r"n\d{8}")
MAPPING = "LOC_synset_mapping.txt"  # beside ImageNet's images, in Kaggle's release


def class_words(split: Split) -> tuple[str, ...]:
    """A name for each class of the split, all different.

    WordNet ids get the first word of their synset, from the data set's own list or timm's, and keep
    the id behind it where another class has the same word ("crane (n02012849)"). All other names,
    and ids that no list knows, stay as they are.
    """
    if not any(WORDNET.fullmatch(name) for name in split.classes):
        return split.classes
    known = dict(_timm_words())
    if len(split):
        known |= _words(split.source(0)[0].root / MAPPING)
    words = [known.get(name, name) for name in split.classes]
    count = Counter(words)
    return tuple(
        word if count[word] == 1 or word == name else f"{word} ({name})"
        for word, name in zip(words, split.classes, strict=True)
    )


def _words(path: Path) -> dict[str, str]:
    """WordNet id -> first word of a list with lines such as "n01440764 tench, Tinca tinca"."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = (line.replace("\t", " ").partition(" ") for line in lines)
    found = ((name, text.partition(",")[0].strip()) for name, _, text in pairs)
    return {name: word for name, word in found if WORDNET.fullmatch(name) and word}


@cache
def _timm_words() -> Mapping[str, str]:
    """What timm knows, read without importing it (and torch with it)."""
    spec = importlib.util.find_spec("timm")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if words := _words(Path(place) / "data" / "_info" / "imagenet_synset_to_lemma.txt"):
            return MappingProxyType(words)
    return MappingProxyType({})
