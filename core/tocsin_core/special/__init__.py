"""What reaches beyond one reading of one point: watches, gates, computed points and first-out, compiled once."""

from tocsin_core.special.compiled import Special, compile_special
from tocsin_core.special.families import FAMILY, Family

__all__ = ["FAMILY", "Family", "Special", "compile_special"]
