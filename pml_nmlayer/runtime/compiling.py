"""What is better left out of compiled code."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


def uncompiled(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Let compiled code call a function as it is.

    As a decorator `torch.compiler.disable` imports the whole compiler. That takes almost
    as long as torch itself, also where nothing is compiled.

    Args:
        function: what depends on Python numbers that change from call to call.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.disable(function)
    return function
