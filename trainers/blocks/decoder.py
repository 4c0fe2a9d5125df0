"""The light transformer decoder of masked image modelling, and the pixels that it predicts."""

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from bench.errors import SpecError
from trainers.blocks.vit import init_linear, patchify, sincos_positions


class LightDecoder(nn.Module):
    """Visible tokens plus mask tokens -> one prediction per patch (MAE's decoder).

    Encoder tokens are projected to ``dim``, put back to their places among copies of a learned mask
    token, given fixed sine-cosine positions and passed through ``depth`` blocks.

    Args:
        in_dim: width of the encoder.
        dim: width of the decoder.
        depth: number of blocks.
        heads: attention heads.
        out_dim: numbers predicted for each patch.
        grid: patches per side.

    Raises:
        SpecError: ``dim`` is not divisible by 4 (for the positions) and by ``heads``.
    """

    positions: Tensor

    def __init__(
        self, in_dim: int, dim: int, depth: int, heads: int, out_dim: int, grid: int
    ) -> None:
        super().__init__()
        if dim % 4 or dim % heads:
            raise SpecError(
                f"a decoder {dim} wide with {heads} heads: the width must be divisible by 4 and by "
                "the number of heads"
            )
        self.embed = nn.Linear(in_dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim).normal_(std=0.02))
        self.register_buffer("positions", sincos_positions(dim, grid, prefix=1), persistent=False)
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(dim, heads, mlp_ratio=4, qkv_bias=True, norm_layer=norm) for _ in range(depth)
        )
        self.norm = norm(dim)
        self.predict = nn.Linear(dim, out_dim)
        self.apply(init_linear)

    def forward(self, cls: Tensor, visible: Tensor, keep: Tensor) -> Tensor:
        """Predictions for all patches.

        Args:
            cls: (b, in_dim) class token of the encoder.
            visible: (b, k, in_dim) tokens of the visible patches.
            keep: (b, k) their positions.

        Returns:
            (b, n, out_dim) in raster order.
        """
        return self.predictions(cls, visible, keep)[:, 1:]

    def predictions(self, cls: Tensor, visible: Tensor, keep: Tensor) -> Tensor:
        """Predictions at the class token, then for all patches: (b, 1 + n, out_dim)."""
        tokens = self.embed(torch.cat((cls[:, None], visible), 1))  # (b, 1 + k, d)
        n = self.positions.shape[1] - 1
        full = self.mask_token.to(tokens.dtype).expand(len(tokens), n, -1)
        index = keep[..., None].expand(-1, -1, tokens.shape[-1])
        full = full.scatter(1, index, tokens[:, 1:])
        x = torch.cat((tokens[:, :1], full), 1) + self.positions
        for block in self.blocks:
            x = block(x)
        prediction: Tensor = self.predict(self.norm(x))
        return prediction


def pixel_targets(images: Tensor, patch_size: int, normalised: bool) -> Tensor:
    """What MAE reconstructs: the pixels of each patch, (b, n, patch_size**2 * 3).

    Args:
        images: (b, 3, h, w).
        patch_size: side of a patch in pixels.
        normalised: whether each patch gets mean 0 and (unbiased) variance 1.
    """
    target = patchify(images, patch_size)
    if not normalised:
        return target
    mean = target.mean(-1, keepdim=True)
    return (target - mean) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
