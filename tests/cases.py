"""Cases of which every fifth runs in `make test`, and the others in `make test-slow`."""

from collections.abc import Mapping
from typing import Any

import pytest

EVERY = 5


def sampled(cases: Mapping[str, Any]) -> list[Any]:
    """Return the cases as parameters with their names as ids; a tuple stands for several parameters."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            id=name,
            marks=[pytest.mark.slow] if number % EVERY else [],
        )
        for number, (name, case) in enumerate(cases.items())
    ]
