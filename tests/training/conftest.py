"""What tests of training share."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.numpy_backbone import NumpyBackbone


@pytest.fixture(params=["MLP", "input is a tap", "input is none"])
def backbone(request: pytest.FixtureRequest, make_model: Any) -> Any:
    """A model with the module's ``WIDTHS``, of each kind of first tap."""
    widths = request.module.WIDTHS
    if request.param == "MLP":
        return make_model(widths)
    return NumpyBackbone(widths, first_tap_is_input=request.param == "input is a tap")
