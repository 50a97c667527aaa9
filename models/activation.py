"""The non-linearity of a network: which ones a model file may name, and how they are applied."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

Function = Callable[[Tensor, bool, float], Tensor]

# Every row: the function, and the name and default of the one number it takes, if any.
_TABLE: Mapping[str, tuple[Function, str, float]] = {
    "SiLU": (lambda x, inplace, _: functional.silu(x, inplace), "", 0.0),
    "ReLU": (lambda x, inplace, _: functional.relu(x, inplace), "", 0.0),
    "ReLU6": (lambda x, inplace, _: functional.relu6(x, inplace), "", 0.0),
    "LeakyReLU": (
        lambda x, inplace, slope: functional.leaky_relu(x, slope, inplace),
        "negative_slope",
        0.01,
    ),
    "ELU": (lambda x, inplace, alpha: functional.elu(x, alpha, inplace), "alpha", 1.0),
    "GELU": (lambda x, inplace, _: functional.gelu(x), "", 0.0),
    "Hardswish": (lambda x, inplace, _: functional.hardswish(x, inplace), "", 0.0),
    "Mish": (lambda x, inplace, _: functional.mish(x, inplace), "", 0.0),
    "Sigmoid": (lambda x, inplace, _: x.sigmoid(), "", 0.0),
    "Tanh": (lambda x, inplace, _: x.tanh(), "", 0.0),
    "Identity": (lambda x, inplace, _: x, "", 0.0),
}
_FORM = re.compile(r"(?:torch\.)?(?:nn\.)?(\w+)(?:\(([^()]*)\))?")
_FLAG = re.compile(r"inplace\s*=\s*(?:True|False)")


@dataclass(frozen=True)
class Activation:
    """A non-linearity by its name in torch.nn, with the one number that some of them take."""

    name: str
    number: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """The function of every element; without a gradient to come it is written into `x`."""
        function, _, _ = _TABLE[self.name]
        return function(x, not x.requires_grad, self.number)

    def __str__(self) -> str:
        """The form that model files use, such as nn.LeakyReLU(0.1)."""
        takes_number = _TABLE[self.name][1]
        return f"nn.{self.name}({self.number!r})" if takes_number else f"nn.{self.name}()"


SILU = Activation("SiLU")
"""What a network uses whose file names none."""


def parse_activation(text: object) -> Activation:
    """The activation that a text names: 'nn.LeakyReLU(0.1)', 'nn.ReLU(inplace=True)', 'Mish'.

    `inplace` changes no number and is left out. Raises ValueError with what there is.
    """
    form = _FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    row = _TABLE.get(form[1]) if form else None
    if form is None or row is None:
        raise ValueError(f"activation {text!r} is not one of {', '.join(_TABLE)}")
    _, takes, number = row
    given = [part.strip() for part in (form[2] or "").split(",") if part.strip()]
    given = [part for part in given if not _FLAG.fullmatch(part)]
    if not given:
        return Activation(form[1], number)
    if not takes or len(given) > 1:
        raise ValueError(f"activation {text!r} has arguments that {form[1]} does not take")
    name, _, value = given[0].rpartition("=")
    try:
        if name.strip() not in {"", takes} or not math.isfinite(float(value)):
            raise ValueError
        return Activation(form[1], float(value))
    except ValueError:
        raise ValueError(f"activation {text!r}: {takes} must be a number") from None
