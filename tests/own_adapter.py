"""An adapter that a facility adds to its Tiled server, for a format of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from tiled.adapters.array import ArrayAdapter
from tiled.structures.data_source import DataSource
from tiled.utils import path_from_uri


class RawAdapter(ArrayAdapter):
    """Frames one after another, as ``numpy.ndarray.tofile`` writes them."""

    @classmethod
    def from_catalog(cls, data_source: DataSource[Any], node: Any, /, **_: Any) -> RawAdapter:
        structure = data_source.structure
        (asset,) = data_source.assets
        dtype = structure.data_type.to_numpy_dtype()
        frames = np.fromfile(path_from_uri(asset.data_uri), dtype)
        return cls(frames, structure, metadata=node.metadata_, specs=node.specs)
