"""Which crops a run makes, and which encoders take them."""

from dataclasses import replace

import pytest

from psm_stream.align.crops import Crops, check_takes_ours, crops_of, recorded_template, template_of, why_not
from psm_stream.align.template import EYES_LEVEL, Template
from psm_stream.bundle import Alignment, InputSpec, Manifest, general_bundle, open_bundle
from psm_stream.errors import ConfigError

GENERAL = open_bundle(general_bundle()).manifest
OTHER = Template("arc", 0.3, 0.45)


def wanting(size_px: int, crop_px: int, template: Template = EYES_LEVEL) -> Manifest:
    alignment = Alignment(
        template=template.name,
        crop_px=crop_px,
        eye_distance=template.eye_distance,
        eye_line_y=template.eye_line_y,
    )
    return GENERAL.model_copy(update={"input": InputSpec(size_px=size_px), "alignment": alignment})


def test_the_general_encoder_has_the_crops_that_it_always_had() -> None:
    assert crops_of(GENERAL) == Crops() == Crops(EYES_LEVEL, 128)


@pytest.mark.parametrize(
    ("size_px", "crop_px", "made"), [(8, 8, 8), (64, 128, 128), (256, 128, 256), (512, 512, 512), (112, 160, 160)]
)
def test_the_bundle_says_how_large(size_px: int, crop_px: int, made: int) -> None:
    assert crops_of(wanting(size_px, crop_px, OTHER)) == Crops(OTHER, made)
    assert crops_of(wanting(size_px, crop_px), 512) == Crops(EYES_LEVEL, 512)


def test_too_small_a_crop_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"aligner\.size_px 128 is smaller .* 256 px; set 256"):
        crops_of(wanting(256, 256), 128)


def test_an_encoder_is_never_given_crops_of_another_template() -> None:
    assert why_not(GENERAL, Crops()) == ""
    assert why_not(wanting(64, 128, replace(EYES_LEVEL, name="another name")), Crops()) == ""
    assert "wants crops by arc (eyes 0.3 of the side apart, 0.45" in why_not(wanting(64, 64, OTHER), Crops())
    assert "wants crops by eyes-level-1" in why_not(GENERAL, Crops(OTHER, 128))
    assert "takes 256 px, and the crops are 128 px" in why_not(wanting(256, 256), Crops())
    assert why_not(GENERAL, Crops(size_px=64)) == ""


def test_who_cannot_take_a_store_s_crops_is_told_so() -> None:
    check_takes_ours(GENERAL, "a store")
    for manifest in (wanting(64, 64, OTHER), wanting(256, 256)):
        with pytest.raises(ConfigError, match=r"^a store: encoder .*; run another --model$"):
            check_takes_ours(manifest, "a store")


def test_a_session_says_what_its_crops_are() -> None:
    told = {"aligner": {"size_px": 256, "template": Crops(OTHER, 256).as_dict()}}
    assert recorded_template(told) == OTHER == template_of(wanting(64, 64, OTHER))


@pytest.mark.parametrize("config", [{}, {"aligner": None}, {"aligner": {}}, {"aligner": {"template": "x"}}])
def test_older_sessions_have_ours(config: dict[str, object]) -> None:
    assert recorded_template(config) == EYES_LEVEL


def test_a_template_that_says_no_numbers_is_none() -> None:
    assert recorded_template({"aligner": {"template": {"eye_distance": "far"}}}) == EYES_LEVEL
