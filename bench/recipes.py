"""The token recipes as data: what each needs of a forward.

Whole-image recipes are concatenations of *blocks* of width d, so a cache that stores blocks serves
them all. No torch here.
"""

import re
from collections.abc import Sequence

from bench.errors import SpecError, nearest

# Shallow to deep, then the averages: cls, cls4, cls+avg and cls4+avg are then contiguous columns of
# the cache.
RECIPE_BLOCKS = ("cls@-4", "cls@-3", "cls@-2", "cls@-1", "avg", "avg_fcnorm")

_ALIASES = {"cls": ("cls@-1",), "cls4": ("cls@-4", "cls@-3", "cls@-2", "cls@-1")}
_CLS = re.compile(r"cls@-?\d+")
_TAPS = re.compile(r"patch@\((-?\d+(?:,-?\d+)*),?\)")
MAPS = ("patch", "tokens", "key_last", "attn_cls", "proto")
RECIPES = (
    *("cls", "avg", "avg_fcnorm", "cls4", "cls+avg", "cls4+avg"),
    *("patch", "tokens", "patch@(3,5,7,11)", "key_last", "attn_cls", "proto"),
)


def blocks_of(recipe: str) -> tuple[str, ...]:
    """The blocks whose concatenation is the recipe: `cls4+avg` -> four `cls@-k`, then `avg`.

    Parts are joined by `+`; `cls@-2` taps one block (timm's indices). SpecError for a map recipe or
    an unknown name.
    """
    blocks: list[str] = []
    for part in recipe.split("+"):
        if part in _ALIASES:
            blocks.extend(_ALIASES[part])
        elif part in ("avg", "avg_fcnorm") or _CLS.fullmatch(part):
            blocks.append(part)
        else:
            kind = "is a map, not a vector" if is_map(part) else "is not a token recipe"
            raise SpecError(f"'{part}' {kind}; {nearest(part, RECIPES[:6])}")
    return tuple(blocks)


def is_map(recipe: str) -> bool:
    """Whether the recipe keeps all patches (`patch`, `tokens`, `key_last`, `patch@(...)`, ...)."""
    return recipe in MAPS or _TAPS.fullmatch(recipe) is not None


def taps_of(recipe: str) -> tuple[int, ...]:
    """(3, 5, 7, 11) of `patch@(3,5,7,11)`; () of a recipe of another kind."""
    match = _TAPS.fullmatch(recipe)
    return tuple(int(index) for index in match[1].split(",")) if match else ()


def check_recipe(recipe: str) -> None:
    """SpecError, with the nearest name, when `recipe` is neither a map nor a sum of blocks."""
    if is_map(recipe):
        return
    try:
        blocks_of(recipe)
    except SpecError:
        raise SpecError(f"no token recipe '{recipe}'; {nearest(recipe, RECIPES)}") from None


def needs_cls(recipe: str) -> bool:
    """Whether the recipe reads the CLS token."""
    return "cls" in recipe


def tap_indices(recipes: Sequence[str], depth: int) -> tuple[set[int], set[int]]:
    """0-based indices of the blocks, of `depth`, whose outputs the recipes read.

    Returns those read whole, and those of which the CLS token is read: a caller need not keep more.
    """
    whole: set[int] = set()
    cls_only: set[int] = set()
    for recipe in recipes:
        if recipe in ("key_last", "attn_cls"):
            continue  # these read the input of the last block
        if is_map(recipe):
            whole.update(block_index(i, depth, recipe) for i in taps_of(recipe) or (-1,))
            continue
        for block in blocks_of(recipe):
            index = block_index(index_of(block), depth, recipe)
            (cls_only if block.startswith("cls") else whole).add(index)
    return whole, cls_only


def index_of(block: str) -> int:
    """The index that a whole-image block taps: -2 of `cls@-2`, -1 of `avg`."""
    return int(block.partition("@")[2] or -1)


def block_index(index: int, depth: int, recipe: str = "layers") -> int:
    """`index` counted from the front; SpecError when there is no such block among `depth`."""
    if not -depth <= index < depth:
        raise SpecError(
            f"{recipe} reads block {index}, but the backbone has {depth} blocks: "
            f"use {-depth} to {depth - 1}"
        )
    return index % depth
