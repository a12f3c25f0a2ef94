"""The type and the shape that hold all arrays of one key, chosen from the set of its values."""

from __future__ import annotations

import numpy as np

from .to_numpy import matches
from .widening import TypeRequirements

_FLOAT64 = np.dtype("f8")

_TEXT_WIDTH = 16
"""Characters of undeclared text at least."""

_NUMBER_WIDTH, _COMPLEX_WIDTH = 32, 64
"""Characters that hold any number as text: 24 for a float64, 51 for two in a complex number."""


class ArrayType:
    """The type of the elements of all arrays so far.

    Parameters
    ----------
    declared : numpy.dtype or None
        The declared type.
    requirements : TypeRequirements
        Requirements of earlier values of the key; those of the arrays are added.
    """

    def __init__(self, declared: np.dtype | None, requirements: TypeRequirements) -> None:
        self.declared = declared
        self._requirements = requirements
        self._width = 0
        self._has_text = self._has_number = self._has_bool = False

    @property
    def wanted(self) -> np.dtype:
        """The type of numbers that fit: the declared one, else float64."""
        return self.declared or _FLOAT64

    @property
    def dtype(self) -> np.dtype:
        """The type that holds all of them."""
        declared = self.declared
        if declared is None:
            return self._undeclared()
        if declared.kind in "US":
            declared_width = declared.itemsize // (4 if declared.kind == "U" else 1)
            fits = 0 < self._width <= declared_width or (declared_width and not self._width)
            width = declared_width if fits else max(declared_width, self._text_width)
            return np.dtype(f"{declared.kind}{width}")
        if declared.kind in "biufc":
            return self._requirements.resolve(declared)
        return declared

    def _undeclared(self) -> np.dtype:
        is_complex = self._requirements.complex
        if self._has_text:
            for_numbers = _COMPLEX_WIDTH if is_complex else _NUMBER_WIDTH
            width = max(self._text_width, for_numbers if self._has_number else 0)
            return np.dtype(f"U{width}")
        if self._has_number or not self._has_bool:
            return np.dtype("c16") if is_complex else _FLOAT64
        return np.dtype("?")

    @property
    def _text_width(self) -> int:
        """A power of two, so that texts that grow do not rebuild the node again and again."""
        return max(_TEXT_WIDTH, 1 << max(self._width - 1, 0).bit_length())

    def accepts(self, block: np.ndarray) -> bool:
        """Return True if the elements of a block need not be looked at one by one."""
        kind = block.dtype.kind
        if self.declared is None:
            return kind in "biuf" or (kind == "U" and not self._has_number)
        if self.declared.kind in "biufc":
            return kind in "biufc"
        return self.declared.kind == kind and self.declared.fields is None

    def account(self, values: np.ndarray) -> None:
        """Take account of the elements of an array, of any shape."""
        kind = values.dtype.kind
        if values.size == 0:
            return
        if kind in "biufc":
            self._requirements.add_array(values, self.wanted)
            self._has_bool |= kind == "b"
            self._has_number |= kind != "b"
        elif kind in "US":
            longest = values.dtype.itemsize // (4 if kind == "U" else 1)
            if longest > self._width:
                self._width = max(self._width, int(np.char.str_len(values).max()))
            self._has_text |= kind == "U"


class ArrayShape:
    """The shape of all arrays so far.

    Parameters
    ----------
    declared : tuple of (int or None) or None
        The declared shape of a value; None for any size, or if there is none.

    Attributes
    ----------
    row : tuple of (int or None) or None
        Shape of a row; None for a size that varies, or if no shape is known yet.
    is_ragged : bool
        True if a size varies, or if it is 0, which an array node cannot have.
    is_irregular : bool
        True if not all arrays have the same number of dimensions.
    """

    def __init__(self, declared: tuple[int | None, ...] | None) -> None:
        self.row = self._first = declared
        self.is_ragged = self.is_irregular = False
        if declared is not None and (None in declared or 0 in declared):
            self._make_ragged(declared if None in declared else (None,) * len(declared))

    def _make_ragged(self, row: tuple[int | None, ...]) -> None:
        self.row, self.is_ragged = row, True

    @property
    def fill(self) -> tuple[int, ...]:
        """Shape of a row without a value."""
        first = (0,) * len(self.row or (0,)) if self._first is None else self._first
        return tuple(size or 0 for size in first)

    def account(self, shape: tuple[int, ...]) -> None:
        """Take account of the shape of an array."""
        if self.row is None:
            self.row = self._first = shape
        elif len(shape) != len(self.row):
            self.is_irregular = True
        elif not matches(shape, self.row):
            self._make_ragged((None,) * len(shape))
        if 0 in shape and not self.is_ragged:
            self._make_ragged((None,) * len(self.row))

    def settle(self) -> None:
        """Decide on rows of no elements if no shape is known."""
        if self.row is None:
            self._make_ragged((None,))
