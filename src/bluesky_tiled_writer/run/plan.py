"""`Plan`: how a stream stores a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bluesky_tiled_writer.schema import Deviations, Parsed, RowOrder

from .batch import Batch
from .steps import AppendRows, ExtendArray, ExtendRagged, Rebuild
from .stream_fields import AnyField

Forms: TypeAlias = Mapping[str, Any]
"""By name of a node, what is equal as long as the node need not be written anew."""


@dataclass(frozen=True)
class Plan:
    """The steps that store a batch, and what is true once they were executed.

    `rebuild` comes first and has a commit of its own: if one of `steps` is refused afterwards,
    what was rebuilt stays as it is then.
    """

    rebuild: Rebuild | None
    rebuilt: Sequence[str]
    rebuilt_deviations: Deviations
    steps: Sequence[AppendRows | ExtendArray | ExtendRagged]
    batch: Batch
    deviations: Deviations
    parsed: Mapping[AnyField, Parsed]
    layout: Mapping[str, Sequence[AnyField]]
    forms: Forms
    order: RowOrder
