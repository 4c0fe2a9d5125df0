"""Options and presets of an entry, as `sslbench ls KIND NAME` lists them."""

import pytest

from bench import registry
from bench.dataset import check_part
from bench.errors import SpecError
from bench.options import layout_of, options_of
from bench.spec import DatasetPart, bind
from bench.values import convert, settable, to_text

ENTRIES = [(k, n) for k in ("method", "task", "figure") for n in registry.names(k)]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_defaults_and_presets_are_written_as_a_spec_takes_them(kind: str, name: str) -> None:
    cls = registry.load(kind, name)
    settings = getattr(cls, "recipe", cls)
    found = options_of(kind, name)
    assert bind(settings, found.defaults) == settings()
    for preset, values in found.presets.items():
        assert bind(settings, values) == bind(settings, {}, cls.presets[preset])


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_an_option_takes_its_choices_and_no_other_word(kind: str, name: str) -> None:
    cls = registry.load(kind, name)
    kinds, found = settable(getattr(cls, "recipe", cls)), options_of(kind, name)
    for option, words in found.choices.items():
        assert [to_text(convert(word, kinds[option])) for word in words] == list(words)
        with pytest.raises(ValueError, match="valid: "):
            convert("no-such-word", kinds[option])


def test_the_choices_of_an_option_are_listed() -> None:
    found = options_of("task", "attentive")
    assert found.choices["block"] == ("map_bigvision", "map_voltron")
    assert "  block=map_bigvision\n      one of map_bigvision, map_voltron\n" in found.text()
    assert not {"lrs", "holdout", "batch"} & found.choices.keys()
    assert options_of("task", "finetune").choices["head"][-1] == "none"


@pytest.mark.parametrize("name", registry.names("method"))
def test_every_option_of_a_method_is_explained(name: str) -> None:
    found = options_of("method", name)
    assert found.texts.keys() >= found.defaults.keys()
    assert all(found.texts.values())


def test_the_nearest_class_explains_an_option() -> None:
    texts = options_of("method", "ibot").texts
    assert texts["out_dim"] == "number of prototypes K."
    assert texts["lr"].startswith("base learning rate")


def test_the_listing_can_be_read() -> None:
    lines = options_of("method", "slotmim").text().splitlines()
    assert "  prototypes=512" in lines
    assert any(line.startswith("      number of prototypes K") for line in lines)
    assert "  code" in lines
    assert max(map(len, lines)) <= 100
    assert not any("``" in line for line in lines)


@pytest.mark.parametrize("name", registry.names("dataset"))
def test_a_data_set_shows_its_layout_and_modifiers(name: str) -> None:
    found = layout_of(name)
    shown = found.text()
    assert all(word in shown for word in (*found.tree.split(), *found.splits))
    check_part(DatasetPart(name, tuple((key, "1") for key in found.modifiers)))
    assert max(map(len, shown.splitlines())) <= 100


def test_what_has_no_options_says_so() -> None:
    with pytest.raises(SpecError, match="a dataset has no options to list"):
        options_of("dataset", "coco")


def test_what_an_option_means_is_said_once() -> None:
    shown = options_of("figure", "slots").text()
    assert shown.count("images in a column") == 1
    assert "Attributes" not in shown
