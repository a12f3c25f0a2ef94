"""The type and the shape that hold all arrays of one key, chosen from the set of its values."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

from .plain_values import json_text
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
        self._has_text = self._has_bytes = self._has_number = self._has_bool = False

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
            return np.dtype(f"{'S' if self._has_bytes and not self._has_text else 'U'}{width}")
        if declared.kind in "biufc":
            return self._requirements.resolve(declared)
        return declared

    def _undeclared(self) -> np.dtype:
        is_complex = self._requirements.complex
        if self._has_bytes and not (self._has_text or self._has_number or self._has_bool):
            return np.dtype(f"S{self._text_width}")
        if self._has_text or self._has_bytes:
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
        if self.declared.kind in "US":
            return kind == "U"
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
            if kind == "S":  # it must hold them as text, too
                longest = max(len(json_text(item)) for item in values.ravel().tolist())
                self._width = max(self._width, longest)
            elif longest > self._width:
                self._width = max(self._width, int(np.char.str_len(values).max()))
            self._has_text |= kind == "U"
            self._has_bytes |= kind == "S"


Sizes = tuple[int | None, ...]
"""The sizes of an array, or of several; None for one that varies."""


class ArrayShape:
    """The shape of all arrays so far.

    Parameters
    ----------
    declared : tuple of (int or None) or None
        The declared shape of a value; None for any size, or if there is none.

    Attributes
    ----------
    declared : tuple of (int or None) or None
        As above.
    row : tuple of (int or None) or None
        Shape of a row; None for a size that varies, or if no shape is known yet. It has the number
        of dimensions that the arrays have, whatever is declared.
    is_irregular : bool
        True if not all arrays have the same number of dimensions.
    """

    def __init__(self, declared: Sizes | None) -> None:
        self.declared = declared
        self.is_irregular = False
        self._has_scalars = False
        self._arrays: dict[int, Sizes] = {}  # by number of dimensions, of those with elements
        self._empty: Sizes = ()  # of those without: they may have more dimensions
        self._last: Sizes | None = None
        self.row = self._resolved()

    @property
    def is_ragged(self) -> bool:
        """True if a size varies, or if it is 0, which an array node cannot have."""
        return self.row is not None and None in self.row

    @property
    def fill(self) -> tuple[int, ...]:
        """Shape of a row without a value."""
        row = self.row or (0,) * (self.row is None)
        same = self.declared is not None and len(self.declared) == len(row)
        return tuple(size or 0 for size in (self.declared if same and self.declared else row))

    def account(self, shape: Sizes, *, has_elements: bool = True) -> None:
        """Take account of the shape of an array, () for a scalar."""
        if has_elements and shape == self._last:
            return
        if not shape:
            self._has_scalars = True
        elif has_elements:
            self._last = shape
            self._arrays[len(shape)] = _merged(self._arrays.get(len(shape), ()), shape)
        else:
            # What an empty list is a list of has no size.
            first = shape.index(0) + 1 if 0 in shape else len(shape)
            shape = (*shape[:first], *(_UNKNOWN for _ in shape[first:]))
            self._empty = _merged(self._empty, shape)
        self.row = self._resolved()

    def mix(self) -> None:
        """Take account of a value that nests its elements at different depths."""
        self.is_irregular = True

    def settle(self) -> None:
        """Decide on rows of no elements if no shape is known."""
        if self.row is None:
            self.row = (None,)

    def _resolved(self) -> Sizes | None:
        """Return the shape that holds all arrays, which depends on the set of their shapes only."""
        sizes = next(iter(self._arrays.values()), ())
        least = max(len(self._empty), len(sizes))
        if len(self._arrays) > 1 or (self._arrays and least > len(sizes)):
            self.is_irregular = True
        declared = self.declared
        if not self._arrays and declared is not None and len(declared) >= least:
            ndim = len(declared)
        elif least or self._has_scalars:
            ndim = least
        else:
            return None
        found = _merged(_merged((_UNKNOWN,) * ndim, sizes), self._empty)
        if self._has_scalars:
            found = _merged(found, (1,) * ndim)
        if declared is not None and len(declared) == ndim:
            found = _merged(found, declared)
        return tuple(size if size not in (0, _UNKNOWN) else None for size in found)


_UNKNOWN = -1
"""Stands for a size that no array has shown yet."""


def _merged(one: Sizes, other: Sizes) -> Sizes:
    """Return the sizes that arrays have in common: None where they differ."""
    pairs = zip_longest(one, other, fillvalue=_UNKNOWN)
    return tuple(b if a == _UNKNOWN else a if b in (a, _UNKNOWN) else None for a, b in pairs)
