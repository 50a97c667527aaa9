"""All cases of bad input by part, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping

from tests.reliability import (
    cases_annotation,
    cases_image,
    cases_index,
    cases_settings,
    cases_weights,
)
from tests.reliability.case import Case

PARTS: Mapping[str, tuple[Case, ...]] = {
    "Index": cases_index.CASES,
    "Annotation, ark": cases_annotation.ARK,
    "Annotation, VOC": cases_annotation.VOC,
    "Annotation, COCO": cases_annotation.COCO,
    "Image": cases_image.CASES,
    "Weights": cases_weights.CASES,
    "Settings": cases_settings.FILES,
    "Class names": cases_settings.NAMES,
    "Sizes": cases_settings.SIZES,
}
