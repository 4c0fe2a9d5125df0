"""What every method must hold; a new file in ``trainers/methods`` is tested here unasked."""

import copy
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import registry
from bench.backbone import Backbone
from bench.spec import parse
from bench.vit import build_vit
from trainers.blocks.views import Batch, collate
from trainers.loop import input_spec, prepare, resolve
from trainers.method import Method
from trainers.optim import make_optimizer
from trainers.recipe import Plan, Recipe

ARCH = "vit_mini_patch4_32"


@pytest.fixture(params=registry.names("method"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str, more: str = "", seed: int = 0) -> Method:
    """A method as its ``small`` preset has it, on 32 px images in batches of 4."""
    cls, recipe = resolve(parse(f"{name}@mini_objects?preset=small&arch={ARCH}&batch_size=4{more}"))
    torch.manual_seed(seed)
    return cls(Plan.of(recipe, 40))


def batch_for(method: Method, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    from PIL import Image

    images = [Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8)) for _ in range(4)]
    views = [(i, method.views(image, rng)) for i, image in enumerate(images)]
    return prepare(collate(views), method, seed)


def losses(method: Method, batch: Batch, step: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    return method.losses(batch, step)


def test_the_loss_is_a_finite_scalar_among_named_numbers(name: str) -> None:
    method = build(name)
    parts = losses(method, batch_for(method))
    assert parts["loss"].requires_grad
    for part, value in parts.items():
        assert value.ndim == 0, part
        assert torch.isfinite(value), part


def test_every_trainable_parameter_gets_a_gradient_and_nothing_else_does(name: str) -> None:
    method = build(name)
    losses(method, batch_for(method))["loss"].backward()
    for parameter_name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), parameter_name


def test_bfloat16_autocast_changes_the_loss_a_little_and_keeps_gradients_finite(name: str) -> None:
    method = build(name)
    batch = batch_for(method)
    exact = losses(method, batch)["loss"].item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses(method, batch)["loss"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=0.05)
    for parameter_name, parameter in method.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), parameter_name


def test_the_same_seed_gives_the_same_loss_bit_for_bit(name: str) -> None:
    first, second = build(name), build(name)
    one, two = losses(first, batch_for(first)), losses(second, batch_for(second))
    assert {k: v.item() for k, v in one.items()} == {k: v.item() for k, v in two.items()}


def test_losses_change_nothing_until_the_step_is_over(name: str) -> None:
    method = build(name)
    before = copy.deepcopy(method.state_dict())
    losses(method, batch_for(method))
    for key, value in method.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_after_step_leaves_trained_parameters_alone(name: str) -> None:
    method = build(name)
    losses(method, batch_for(method))
    before = {k: p.clone() for k, p in method.named_parameters() if p.requires_grad}
    method.after_step(0)
    for key, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(parameter, before[key]), key


def test_the_state_dict_carries_everything(name: str) -> None:
    method, other = build(name, seed=0), build(name, seed=1)
    optimizer = make_optimizer(method, method.plan.recipe)
    losses(method, batch_for(method))["loss"].backward()
    optimizer.step()
    method.after_step(0)
    other.load_state_dict(method.state_dict())
    one = losses(method, batch_for(method, 1), step=1)
    two = losses(other, batch_for(other, 1), step=1)
    assert one["loss"].item() == two["loss"].item()


def test_the_loss_falls_when_one_batch_is_repeated(name: str) -> None:
    method = build(name, more="&epochs=100&warmup_epochs=0")
    recipe = method.plan.recipe
    optimizer = make_optimizer(method, recipe)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    batch = batch_for(method)
    # Teachers and centres stand still, so that the target is one and the same.
    values = []
    for _ in range(40):
        loss = losses(method, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]


def test_the_backbone_is_a_plain_vit_that_evaluation_can_read(name: str) -> None:
    method = build(name)
    vit = method.backbone()
    build_vit(ARCH).load_state_dict(vit.state_dict())
    spec = input_spec(method)
    assert spec.size_px == 32
    backbone = Backbone(vit, spec, method.pos_interp).eval()
    with torch.no_grad():
        tokens = backbone.tokens(torch.zeros(2, 3, 32, 32))
    assert tokens.patches.shape == (2, 8, 8, 96)


def test_views_fit_their_specs(name: str) -> None:
    method = build(name)
    batch = batch_for(method)
    specs = method.view_specs()
    assert len(batch.images) == len(specs)
    for image, spec in zip(batch.images, specs, strict=True):
        assert image.shape == (4, 3, spec.size_px, spec.size_px)
        assert image.dtype == torch.float32
    assert ((batch.boxes >= 0) & (batch.boxes <= 1)).all()


def test_frozen_names_parameters_of_the_method(name: str) -> None:
    method = build(name)
    own = {id(p) for p in method.parameters() if p.requires_grad}
    assert all(id(p) in own for p in method.frozen(0))
    assert not list(method.frozen(method.plan.steps - 1))


def test_every_field_of_the_recipe_is_explained(name: str) -> None:
    recipe: type[Recipe] = registry.load("method", name).recipe
    assert recipe is not Recipe, "a method names its paper's constants in a recipe of its own"
    explained = "".join(cls.__doc__ or "" for cls in recipe.__mro__ if issubclass(cls, Recipe))
    for field in fields(recipe):
        assert f"\n        {field.name}: " in explained, field.name


def test_collapse_can_be_seen(name: str) -> None:
    method = build(name)
    parts = losses(method, batch_for(method))
    assert 0 < parts["feature_std"].item() <= 1.5
    assert not parts["feature_std"].requires_grad


def test_presets_set_fields_of_the_recipe(name: str) -> None:
    cls: Any = registry.load("method", name)
    known = {f.name for f in fields(cls.recipe)}
    assert "small" in cls.presets
    for preset, values in cls.presets.items():
        assert set(values) <= known, preset


def test_every_preset_builds_at_its_full_size(name: str) -> None:
    cls: Any = registry.load("method", name)
    for preset in cls.presets:
        recipe = resolve(parse(f"{name}@imagenet1k?preset={preset}"))[1]
        with torch.device("meta"):  # neither memory nor values
            method = cls(Plan.of(recipe, 1_281_167))
        assert input_spec(method).size_px == max(view.size_px for view in method.view_specs())


def test_the_file_is_short_enough_to_read(name: str) -> None:
    file = Path(registry.load("method", name).__module__.replace(".", "/")).with_suffix(".py")
    root = Path(__file__).parents[2]
    assert len((root / file).read_text().splitlines()) <= 330
