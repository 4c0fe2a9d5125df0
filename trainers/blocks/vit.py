"""A vision transformer seen as tokens: masks, dropped tokens and position embeddings."""

from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from bench.errors import SpecError
from bench.positions import interpolate_positions


@dataclass
class TokenOutput:
    """Tokens of the last block: class (b, d), and patches (b, n, d) in raster order."""

    cls: Tensor
    patches: Tensor


class TokenViT(nn.Module):
    """timm's VisionTransformer with the inputs that pre-training needs.

    The wrapped model keeps timm's parameter names, so what is trained here loads anywhere timm
    does.

    Args:
        vit: a ViT with a class token and without a head.
        mask_token: whether masked patches can be replaced by a learned token.
        pos_interp: convention for crops of another size, ``dino`` or ``size``.

    Raises:
        SpecError: the ViT has registers, no class token or no position for it.
    """

    def __init__(
        self, vit: VisionTransformer, *, mask_token: bool = False, pos_interp: str = "dino"
    ) -> None:
        super().__init__()
        if vit.cls_token is None or vit.num_prefix_tokens != 1 or vit.no_embed_class:
            raise SpecError(
                f"pre-training needs a ViT with a class token that has a position, and without "
                f"registers; this one has {vit.num_prefix_tokens} tokens before the patches: "
                "choose an arch such as vit_small_patch16_224"
            )
        self.vit = vit
        self.pos_interp = pos_interp
        self.mask_token = nn.Parameter(torch.zeros(1, 1, vit.embed_dim)) if mask_token else None

    @property
    def embed_dim(self) -> int:
        """Width of the tokens."""
        return int(self.vit.embed_dim)

    @property
    def grid(self) -> int:
        """Patches per side at the native size."""
        return int(self.vit.patch_embed.grid_size[0])

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return int(self.vit.patch_embed.patch_size[0])

    def forward(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        keep: Tensor | None = None,
        dropout: float = 0.0,
        norm: bool = True,
    ) -> TokenOutput:
        """Tokens after the last block.

        Args:
            images: (b, 3, s, s) with s a multiple of the patch size.
            mask: (b, n) bool; True patches become the mask token before positions are added.
            keep: (b, k) indices; only these patches enter the transformer (after positions are
                added).
            dropout: probability with which each feature of the patch embedding is dropped, before
                positions are added.
            norm: whether they go through the final norm.

        Raises:
            SpecError: the patch size does not divide the images.
        """
        vit = self.vit
        if images.shape[-1] % self.patch_size:
            raise SpecError(
                f"views of {images.shape[-1]} px do not divide into patches of {self.patch_size} "
                "px: choose a multiple of the patch size"
            )
        grid = images.shape[-1] // self.patch_size
        x = vit.patch_embed.proj(images).flatten(2).transpose(1, 2)  # (b, n, d)
        if dropout:
            x = F.dropout(x, dropout)
        if self.mask_token is not None:
            # Without a mask the token takes part with weight 0, so that it always has a gradient.
            weight = (mask if mask is not None else x.new_zeros(x.shape[:2]))[..., None].to(x.dtype)
            x = x * (1 - weight) + self.mask_token.to(x.dtype) * weight
        positions = vit.pos_embed
        if grid != self.grid:
            positions = interpolate_positions(
                positions, (self.grid, self.grid), (grid, grid), 1, self.pos_interp
            )
        x = x + positions[:, 1:]
        if keep is not None:
            x = x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
        cls = (vit.cls_token + positions[:, :1]).expand(len(x), -1, -1)
        x = vit.blocks(vit.norm_pre(vit.pos_drop(torch.cat((cls, x), 1))))
        x = vit.norm(x) if norm else x
        return TokenOutput(x[:, 0], x[:, 1:])


def sincos_positions(dim: int, grid: int, prefix: int) -> Tensor:
    """Fixed two-dimensional sine-cosine position embeddings, (1, prefix + grid * grid, dim).

    The first half of the features encodes the column, the second the row (the order of the MAE
    weights); each half holds sines, then cosines, of ``position / 10000 ** (i / (dim / 4))``.
    Prefix rows are 0.

    Raises:
        ValueError: ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"sine-cosine positions need a width divisible by 4, found {dim}")
    frequency = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency  # (g, d/4)
    axis = torch.cat((angle.sin(), angle.cos()), 1)  # (g, d/2)
    column = axis[None].expand(grid, -1, -1)
    row = axis[:, None].expand(-1, grid, -1)
    table = torch.cat((column, row), -1).reshape(grid * grid, dim)
    return torch.cat((torch.zeros(prefix, dim, dtype=torch.float64), table))[None].float()


@torch.no_grad()
def set_sincos_positions(vit: VisionTransformer, *, frozen: bool) -> None:
    """Put sine-cosine positions into ``vit``; ``frozen`` ones get no gradient (MAE)."""
    grid = vit.patch_embed.grid_size[0]
    vit.pos_embed.copy_(sincos_positions(vit.embed_dim, grid, prefix=1))
    vit.pos_embed.requires_grad_(not frozen)


def init_linear(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for a linear layer (MAE, SlotMIM)."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def init_mae(vit: VisionTransformer) -> None:
    """MAE's and SlotMIM's start: Xavier-uniform linears and patches, class token N(0, .02)."""
    vit.apply(init_linear)
    weight = vit.patch_embed.proj.weight
    nn.init.xavier_uniform_(weight.view(len(weight), -1))
    nn.init.normal_(vit.cls_token, std=0.02)


@torch.no_grad()
def init_mocov3(vit: VisionTransformer) -> None:
    """MoCo v3's start: MAE's, but q, k and v by themselves, no patch bias, class token N(0, 1e-6).

    One fused layer for q, k and v would start with bounds for three times as many outputs.
    """
    init_mae(vit)
    for block in vit.blocks:
        for part in block.attn.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(part)
    nn.init.zeros_(vit.patch_embed.proj.bias)
    nn.init.normal_(vit.cls_token, std=1e-6)


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(b, 3, h, w) -> (b, n, patch_size**2 * 3): pixels of each patch by row, column, channel."""
    b, c, h, w = images.shape
    p = patch_size
    x = images.reshape(b, c, h // p, p, w // p, p)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, (h // p) * (w // p), p * p * c)
