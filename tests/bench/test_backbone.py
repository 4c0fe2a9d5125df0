"""Backbone: every token recipe against an independent computation on hooks of plain timm."""

import itertools
import math

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from bench.backbone import Backbone, weights_digest
from bench.errors import CheckpointError, SpecError
from bench.network import empty_network, seeded_network
from bench.positions import interpolate_positions
from bench.recipes import RECIPE_BLOCKS, RECIPES, blocks_of
from bench.tokens import Prototypes
from bench.transforms import InputSpec
from bench.vit import as_vit, build_vit

VARIANTS = {
    "plain": {},
    "registers": {"reg_tokens": 3},
    "qk_norm": {"qk_norm": True, "init_values": 0.3},
    "unembedded_prefix": {"reg_tokens": 2, "no_embed_class": True},
    "pre_norm": {"pre_norm": True},
    "fc_norm": {"global_pool": "avg", "fc_norm": True},
    "no_positions": {"pos_embed": "none"},
}


def vit_of(variant: str, arch: str = "vit_mini_patch4_32") -> nn.Module:
    """A ViT whose every parameter is random: fresh norms and zero biases would hide mistakes."""
    vit = seeded_network(arch, 0, **VARIANTS[variant]).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return vit


def images_of(height: int = 32, width: int = 32, count: int = 3) -> torch.Tensor:
    """Random normalised images."""
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(2))


class Hooked:
    """Block outputs and the last qkv projection of a plain timm forward."""

    def __init__(self, vit: nn.Module, images: torch.Tensor) -> None:
        self.outputs: list[torch.Tensor] = []
        self.vit, self.prefix = vit, vit.num_prefix_tokens
        handles = [
            block.register_forward_hook(lambda m, i, out: self.outputs.append(out))
            for block in vit.blocks
        ]
        handles.append(vit.blocks[-1].attn.qkv.register_forward_hook(self._keep_qkv))
        with torch.no_grad():
            vit.forward_features(images)
        for handle in handles:
            handle.remove()
        self.norm = vit.fc_norm if isinstance(vit.norm, nn.Identity) else vit.norm

    def _keep_qkv(self, module, inputs, output) -> None:
        self.qkv = output

    def expected(self, recipe: str) -> torch.Tensor:
        """The recipe by its definition, one line each."""
        out, p, norm = self.outputs, self.prefix, self.norm
        side = int(math.sqrt(out[-1].shape[1] - p))

        def grid(x: torch.Tensor) -> torch.Tensor:
            return x.reshape(len(x), side, side, *x.shape[2:])

        match recipe:
            case "cls":
                return norm(out[-1])[:, 0]
            case "avg":
                return norm(out[-1])[:, p:].mean(1)
            case "avg_fcnorm":
                return norm(out[-1][:, p:].mean(1))
            case "cls4":
                return torch.cat([norm(x)[:, 0] for x in out[-4:]], 1)
            case "cls+avg":
                return torch.cat([self.expected("cls"), self.expected("avg")], 1)
            case "cls4+avg":
                return torch.cat([self.expected("cls4"), self.expected("avg")], 1)
            case "patch":
                return grid(norm(out[-1])[:, p:])
            case "patch@(0,2,3)":
                return torch.stack([grid(out[i][:, p:]) for i in (0, 2, 3)], 1)
            case "key_last":
                d = self.vit.embed_dim
                return grid(self.qkv[:, p:, d : 2 * d])
            case "attn_cls":
                return self._attention(side)
        raise AssertionError(recipe)

    def _attention(self, side: int) -> torch.Tensor:
        attn = self.vit.blocks[-1].attn
        d, c = self.vit.embed_dim, self.vit.embed_dim // attn.num_heads
        heads = []
        for head in range(attn.num_heads):
            q = attn.q_norm(self.qkv[:, :, head * c : (head + 1) * c]).double()
            k = attn.k_norm(self.qkv[:, :, d + head * c : d + (head + 1) * c]).double()
            weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(c), dim=-1)  # (b, n, n)
            heads.append(weights[:, 0, self.prefix :].reshape(-1, side, side))
        return torch.stack(heads, 1).float()


HOOKED = ("cls", "avg", "avg_fcnorm", "cls4", "cls+avg", "cls4+avg", "patch", "patch@(0,2,3)")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_recipe_equals_its_definition_on_hooks(variant):
    vit, images = vit_of(variant), images_of()
    hooked = Hooked(vit, images)
    recipes = (*HOOKED, "key_last", "attn_cls")
    with torch.no_grad():
        found = Backbone(vit, InputSpec(32)).eval().features(images, recipes)
    assert list(found) == list(recipes)
    for recipe in recipes:
        torch.testing.assert_close(found[recipe], hooked.expected(recipe), rtol=1e-5, atol=1e-5)


def test_avg_is_not_avg_fcnorm():
    with torch.no_grad():
        found = Backbone(vit_of("plain"), InputSpec(32)).features(
            images_of(), ["avg", "avg_fcnorm"]
        )
    assert (found["avg"] - found["avg_fcnorm"]).abs().mean() > 0.01


def test_all_recipes_come_from_one_forward_with_fused_attention(monkeypatch):
    vit = vit_of("registers")
    ran, fused = [], []
    for index, block in enumerate(vit.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: fused.append(1) or original(*a, **k)
    )
    with torch.no_grad():
        Backbone(vit, InputSpec(32)).features(images_of(), [*HOOKED, "key_last", "attn_cls"])
    assert ran == [0, 1, 2, 3]
    assert len(fused) == 4


@pytest.mark.parametrize(
    ("recipes", "ran"),
    [
        (["patch@(0,1)"], [0, 1]),
        (["cls@1"], [0, 1]),
        (["key_last"], [0, 1, 2]),
        (["cls"], [0, 1, 2, 3]),
    ],
)
def test_blocks_that_nobody_reads_do_not_run(recipes, ran):
    vit, seen = vit_of("plain"), []
    for index, block in enumerate(vit.blocks):
        block.register_forward_hook(lambda *_, index=index: seen.append(index))
    with torch.no_grad():
        Backbone(vit, InputSpec(32)).features(images_of(), recipes)
    assert seen == ran


@pytest.mark.parametrize("norm", [True, False])
def test_tokens_equal_timm_intermediates(norm):
    vit, images = vit_of("registers"), images_of()
    with torch.no_grad():
        tokens = Backbone(vit, InputSpec(32)).tokens(images, layers=(0, -2, 3), norm=norm)
        reference = vit.forward_intermediates(
            images, indices=[0, 2, 3], norm=norm, intermediates_only=True, return_prefix_tokens=True
        )
    assert len(tokens.layers) == 3
    for tap, (grid, prefix) in zip(tokens.layers, reference, strict=True):
        torch.testing.assert_close(tap.patches, grid.permute(0, 2, 3, 1))
        torch.testing.assert_close(tap.cls, prefix[:, 0])
    assert tokens.cls is tokens.layers[-1].cls
    assert tokens.patches is tokens.layers[-1].patches


def test_average_pooled_models_without_cls_give_what_they_can():
    vit = seeded_network("vit_mini_patch4_32", 0, class_token=False, global_pool="avg")
    backbone = Backbone(vit, InputSpec(32)).eval()
    assert not backbone.has_cls
    assert [r for r in RECIPES if backbone.available(r)] == [
        "avg",
        "avg_fcnorm",
        "patch",
        "tokens",
        "key_last",
    ]
    with torch.no_grad():
        tokens = backbone.tokens(images_of())
        found = backbone.features(images_of(), ["avg_fcnorm", "key_last"])
        reference = vit(images_of())
    assert tokens.cls is None
    assert tokens.patches.shape == (3, 8, 8, 96)
    torch.testing.assert_close(found["avg_fcnorm"], reference)
    with pytest.raises(SpecError, match="CLS token"):
        backbone.features(images_of(), ["cls"])


def test_features_of_an_image_do_not_depend_on_its_batch():
    backbone, images = Backbone(vit_of("plain"), InputSpec(32)).eval(), images_of(count=5)
    with torch.no_grad():
        together = backbone.features(images, ["cls4+avg"])["cls4+avg"]
        alone = [backbone.features(image[None], ["cls4+avg"])["cls4+avg"] for image in images]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        vit = vit_of("plain").train()
        vit.set_grad_checkpointing(checkpointing)
        Backbone(vit, InputSpec(32))(images_of()).cls.square().sum().backward()
        gradients.append(vit.patch_embed.proj.weight.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


# Positions and sizes


@pytest.mark.parametrize("size", [(48, 32), (20, 64), (16, 16), (64, 64)])
@pytest.mark.parametrize("variant", ["registers", "unembedded_prefix"])
def test_size_convention_equals_timm_dynamic_image_size(size, variant):
    vit, images = vit_of(variant), images_of(*size)
    dynamic = build_vit("vit_mini_patch4_32", dynamic_img_size=True, **VARIANTS[variant]).eval()
    dynamic.load_state_dict(vit.state_dict())
    with torch.no_grad():
        tokens = Backbone(vit, InputSpec(32)).tokens(images)
        reference = dynamic.forward_features(images)
    prefix = vit.num_prefix_tokens
    torch.testing.assert_close(tokens.cls, reference[:, 0])
    torch.testing.assert_close(tokens.patches.flatten(1, 2), reference[:, prefix:])


def cubic(grid: np.ndarray, size: int, factor: float) -> np.ndarray:
    """(m, ...) -> (size, ...): cubic convolution (a = -0.75) at (i + 0.5) / factor - 0.5."""

    def kernel(x: float) -> float:
        x, a = abs(x), -0.75
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    out = np.zeros((size, *grid.shape[1:]))
    for i in range(size):
        position = (i + 0.5) / factor - 0.5
        base = math.floor(position)
        for j in range(base - 1, base + 3):
            out[i] += kernel(position - j) * grid[min(max(j, 0), len(grid) - 1)]
    return out


@pytest.mark.parametrize("new", [(12, 8), (5, 16), (16, 16), (8, 9)])
def test_dino_convention_samples_with_the_shifted_factor(new):
    old, prefix = (8, 8), 2
    pos = torch.randn(1, prefix + 64, 6, generator=torch.Generator().manual_seed(0))
    found = interpolate_positions(pos, old, new, prefix, "dino")
    grid = pos[0, prefix:].reshape(8, 8, 6).double().numpy()
    rows = cubic(grid, new[0], (new[0] + 0.1) / 8)
    reference = cubic(rows.transpose(1, 0, 2), new[1], (new[1] + 0.1) / 8).transpose(1, 0, 2)
    assert torch.equal(found[:, :prefix], pos[:, :prefix])
    torch.testing.assert_close(
        found[0, prefix:].double(), torch.from_numpy(reference).flatten(0, 1), rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(
        found, interpolate_positions(pos, old, new, prefix, "size"), atol=1e-3
    )


@pytest.mark.parametrize("convention", ["size", "dino"])
def test_the_trained_grid_is_left_alone(convention):
    pos = torch.randn(1, 1 + 12, 4)
    assert interpolate_positions(pos, (3, 4), (3, 4), 1, convention) is pos
    # As many patches in another shape is another grid.
    assert not torch.equal(interpolate_positions(pos, (3, 4), (4, 3), 1, convention), pos)


def test_grids_of_every_size_come_out_exact():
    pos = torch.randn(1, 14 * 14, 2)
    for h, w in itertools.product([1, 2, 13, 15, 29, 37, 60], [3, 14, 33]):
        for convention in ("size", "dino"):
            assert interpolate_positions(pos, (14, 14), (h, w), 0, convention).shape == (
                1,
                h * w,
                2,
            )


@pytest.mark.parametrize("convention", ["size", "dino"])
def test_sides_that_the_patch_does_not_divide_are_cropped_at_bottom_and_right(convention):
    backbone = Backbone(vit_of("plain"), InputSpec(32), convention).eval()
    images = images_of(39, 50)
    with torch.no_grad():
        found = backbone.features(images, ["cls", "patch"])
        cropped = backbone.features(images[..., :36, :48], ["cls", "patch"])
    assert found["patch"].shape == (3, 9, 12, 96)
    assert torch.equal(found["cls"], cropped["cls"])
    assert torch.equal(found["patch"], cropped["patch"])
    with pytest.raises(SpecError, match="smaller than one 4 px patch"):
        backbone.tokens(images_of(3, 40))


# Recipes by name


def test_blocks_compose_the_recipes():
    assert blocks_of("cls") == ("cls@-1",)
    assert blocks_of("cls4+avg") == (*RECIPE_BLOCKS[:4], "avg")
    assert blocks_of("cls@2+avg_fcnorm") == ("cls@2", "avg_fcnorm")
    with pytest.raises(SpecError, match="is a map"):
        blocks_of("patch")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("avg_fcnrm", "did you mean 'avg_fcnorm'"),
        ("patch@(3,x)", "no token recipe"),
        ("patch@(3,5,7,11)", "has 4 blocks"),
        ("cls@-5", "has 4 blocks"),
        ("proto", "projector and prototypes"),
        ("cls+patch", "no token recipe"),
    ],
)
def test_recipes_that_cannot_be_say_why(recipe, message):
    backbone = Backbone(vit_of("plain"), InputSpec(32))
    assert not backbone.available(recipe)
    with pytest.raises(SpecError, match=message):
        backbone.features(images_of(), [recipe])


def test_proto_is_the_softmax_of_cosines_of_projected_normed_patches():
    torch.manual_seed(0)
    projector = nn.Sequential(nn.Linear(96, 20), nn.GELU(), nn.Linear(20, 8))
    prototypes = torch.randn(5, 8)
    state = {f"teacher.projector.{k}": v for k, v in projector.state_dict().items()}
    head = Prototypes.from_tensors(
        state | {"teacher.prototypes": prototypes}, "teacher.projector", "teacher.prototypes"
    )
    vit, images = vit_of("plain"), images_of()
    with torch.no_grad():
        found = Backbone(vit, InputSpec(32), extras={"proto": head}).features(images, ["proto"])
        z = projector(Hooked(vit, images).expected("patch")).double()
    cosine = torch.einsum("bhwe,ke->bhwk", z, prototypes.double())
    cosine = cosine / z.norm(dim=-1, keepdim=True) / prototypes.double().norm(dim=1)
    torch.testing.assert_close(
        found["proto"].double(), (cosine / 0.07).softmax(-1), atol=1e-5, rtol=1e-4
    )
    with pytest.raises(CheckpointError, match="no linear layers"):
        Prototypes.from_tensors(state, "student.projector", "teacher.prototypes")


# Architectures and hashes


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_224"])
def test_state_dicts_are_those_of_timm(name):
    ours, timms = empty_network(name).state_dict(), None
    with torch.device("meta"):
        timms = timm.create_model(name, num_classes=0).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in timms.items()}


def test_grammar_takes_any_patch_and_size():
    vit = empty_network("vit_small_patch8_96", reg_tokens=4)
    assert (vit.embed_dim, len(vit.blocks), vit.blocks[0].attn.num_heads) == (384, 12, 6)
    assert vit.pos_embed.shape == (1, 144 + 5, 384)
    assert isinstance(vit.head, nn.Identity)
    assert len(empty_network("vit_huge_patch14_224").blocks) == 32


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("vit_mini_patch5_32", "not a multiple"),
        ("vit_smal_patch16_224", "did you mean 'vit_small_patch16_224'"),
        ("resnet18", "plain VisionTransformer"),
    ],
)
def test_unknown_architectures_are_refused_with_advice(arch, message):
    with pytest.raises(SpecError, match=message):
        build_vit(arch)


def test_only_the_plain_vit_is_read():
    class Other(type(empty_network("vit_mini_patch4_32"))):
        """A subclass might add tokens that the loop would skip."""

    with torch.device("meta"), pytest.raises(SpecError, match="'x' is a Other"):
        as_vit(Other(depth=1), "x")
    with pytest.raises(SpecError, match="pos_interp"):
        Backbone(empty_network("vit_mini_patch4_32"), InputSpec(32), "bilinear")


def test_seeded_weights_are_reproducible_and_leave_the_global_generator():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = seeded_network("vit_mini_patch4_32", 1)
    assert torch.equal(torch.rand(3), expected)
    digest = weights_digest(first.state_dict())
    assert digest == weights_digest(seeded_network("vit_mini_patch4_32", 1).state_dict())
    assert digest != weights_digest(seeded_network("vit_mini_patch4_32", 2).state_dict())


def test_digest_does_not_depend_on_the_file_or_the_order(tmp_path):
    state = dict(vit_of("plain").state_dict())
    state |= {"half": torch.randn(3).half(), "brain": torch.randn(2, 2).bfloat16()}
    state |= {"scalar": torch.tensor(3), "empty": torch.zeros(0, 4)}
    digest = weights_digest(state)
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert weights_digest(load_file(tmp_path / "a.safetensors")) == digest
    assert weights_digest(torch.load(tmp_path / "a.pt", weights_only=True)) == digest
    assert weights_digest(torch.load(tmp_path / "old.pt", weights_only=True)) == digest
    assert weights_digest(dict(reversed(state.items()))) == digest
    # Memory layout is not content.
    assert weights_digest(state | {"brain": state["brain"].T.contiguous().T}) == digest


def test_digest_sees_values_names_shapes_and_types():
    state = {"a": torch.zeros(4), "b": torch.ones(2)}
    others = [
        state | {"a": torch.tensor([0, 0, 0, 1e-45])},
        state | {"a": torch.zeros(2, 2)},
        state | {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(4)},
    ]
    assert len({weights_digest(s) for s in [state, *others]}) == 6


def test_signature_tells_networks_apart_whose_weights_look_alike():
    plain = Backbone(empty_network("vit_mini_patch4_32"), InputSpec(32))
    heads = Backbone(empty_network("vit_mini_patch4_32", num_heads=6), InputSpec(32))
    eps = Backbone(
        empty_network(
            "vit_mini_patch4_32", norm_layer=lambda d, **k: nn.LayerNorm(d, eps=1e-3, **k)
        ),
        InputSpec(32),
    )
    assert len({plain.signature(), heads.signature(), eps.signature()}) == 3
    assert plain.signature() == Backbone(build_vit("vit_mini_patch4_32"), InputSpec(64)).signature()


def test_layout_names_the_norm_wherever_it_is():
    layouts = [Backbone(vit_of(v), InputSpec(32)).layout() for v in ("plain", "fc_norm")]
    assert layouts == [[[3, 3, 3, 3], 1e-6, False]] * 2


@pytest.mark.parametrize("variant", ["plain", "registers"])
def test_attention_and_means_stay_in_float32_under_autocast(variant):
    vit, images = vit_of(variant), images_of()
    recipes = ["attn_cls", "avg", "avg_fcnorm"]
    backbone = Backbone(vit, InputSpec(32))
    with torch.no_grad():
        exact = backbone.features(images, recipes)
        with torch.autocast("cpu", torch.bfloat16):
            low = backbone.features(images, recipes)
    assert low["attn_cls"].dtype == torch.float32
    for recipe in recipes:
        assert (low[recipe] - exact[recipe]).abs().mean() < 0.03 * exact[recipe].abs().mean()


def test_tokens_are_cls_and_patches_in_one_row() -> None:
    backbone = Backbone(seeded_network("vit_mini_patch4_32", 0, reg_tokens=2), InputSpec(32)).eval()
    with torch.no_grad():
        found = backbone.features(images_of(), ["tokens", "cls", "patch"])
    assert found["tokens"].shape == (3, *backbone.token_shape(32)) == (3, 65, 96)
    assert torch.equal(found["tokens"][:, 0], found["cls"])
    assert torch.equal(found["tokens"][:, 1:], found["patch"].flatten(1, 2))


def test_asking_for_the_shape_of_tokens_leaves_the_network_as_it_was() -> None:
    backbone = Backbone(seeded_network("vit_mini_patch4_32", 0), InputSpec(32)).train()
    assert backbone.token_shape(24) == (37, 96)
    assert backbone.training
    assert backbone.vit.blocks[0].training
