"""A Swin Transformer seen as tokens, with the masks of masked image modelling."""

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from bench.errors import SpecError
from bench.network import size_of
from bench.swin import block_outputs, embed, stride_of
from trainers.blocks.vit import TokenOutput


class TokenSwin(nn.Module):
    """timm's SwinTransformer with the inputs and outputs of ``TokenViT``.

    Patches are those of the last stage, 32 px apart; their average stands for the class token (Zhou
    et al., iBOT). The wrapped model keeps timm's parameter names.

    Args:
        vit: a Swin without a head; the name is that of ``TokenViT``.
        mask_token: whether masked patches can be replaced by a learned token.
    """

    def __init__(self, vit: SwinTransformer, *, mask_token: bool = False) -> None:
        super().__init__()
        self.vit = vit
        width = int(vit.embed_dim)  # of the first stage, where masked patches are replaced
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 1, width)) if mask_token else None

    @property
    def embed_dim(self) -> int:
        """Width of the tokens."""
        return int(self.vit.num_features)

    @property
    def grid(self) -> int:
        """Patches of the last stage per side at the native size."""
        return size_of(self.vit) // self.patch_size

    @property
    def patch_size(self) -> int:
        """Pixels between neighbouring patches of the last stage."""
        return stride_of(self.vit)

    def forward(
        self, images: Tensor, mask: Tensor | None = None, keep: Tensor | None = None
    ) -> TokenOutput:
        """Tokens of the last stage after the final norm.

        Args:
            images: (b, 3, s, s) with s a multiple of the patch size.
            mask: (b, n) bool; all that lies under a True patch becomes the mask token before the
                first stage.
            keep: refused, windows need whole grids.

        Raises:
            SpecError: the patch size does not divide the images, or ``keep`` is given.
        """
        if images.shape[-1] % self.patch_size:
            raise SpecError(
                f"views of {images.shape[-1]} px do not divide into patches of {self.patch_size} "
                "px: choose a multiple of the patch size"
            )
        if keep is not None:
            raise SpecError("a Swin cannot leave patches out: choose a vit_* arch, or mask patches")
        x = embed(self.vit, images)  # (b, h, w, c)
        if self.mask_token is not None:
            # Without a mask the token takes part with weight 0, so that it always has a gradient.
            weight = x.new_zeros(x.shape[:3]) if mask is None else spread(mask, x.shape[1])
            weight = weight[..., None].to(x.dtype)
            x = x * (1 - weight) + self.mask_token.to(x.dtype) * weight
        for output in block_outputs(self.vit, x):
            x = output
        patches = self.vit.norm(x).flatten(1, 2)  # (b, n, d)
        return TokenOutput(patches.mean(1), patches)


def spread(mask: Tensor, side: int) -> Tensor:
    """A mask (b, n) of a square grid on the finer grid (b, side, side)."""
    grid = round(mask.shape[1] ** 0.5)
    times = side // grid
    return mask.unflatten(1, (grid, grid)).repeat_interleave(times, 1).repeat_interleave(times, 2)
