"""Documents of any age to those of today's event model."""

from .run_normalizer import RunNormalizer

__all__ = ["RunNormalizer"]
