"""SlotCon with a ViT: agreement of aligned patches on few prototypes, and slot contrast."""

from dataclasses import dataclass

from trainers.methods.slotmim import SlotMIM, SlotMIMRecipe


@dataclass(frozen=True, kw_only=True)
class SlotConRecipe(SlotMIMRecipe):
    """Wen et al., "Self-Supervised Visual Representation Learning with Semantic Grouping" (2022).

    As the baseline of SlotMIM's Table 1: its ViT-B, schedule and heads instead of a ResNet-50, LARS
    and batch normalisation.
    """

    mask_ratio: float = 0.0
    within_weight: float = 0.0


class SlotCon(SlotMIM):
    """SlotMIM's program on clean views without the loss within a view, to the bit."""

    recipe = SlotConRecipe
