"""What unlabelled items of a database teach a hash head."""

from .recipe import FittedCodes, fit_codes

__all__ = ["FittedCodes", "fit_codes"]
