"""Families of alarm definitions: which detector judges them."""

from enum import IntEnum
from typing import Final

from tocsin_core.plant import AlarmKind


class Family(IntEnum):
    """Which detector judges a definition. From LOOP on, readings that are not good are judged as well."""

    LIMIT = 0
    RATE = 1
    TIME_TO_LIMIT = 2
    STEL = 3
    TWA = 4
    PEAKS = 5
    CUSUM = 6
    EWMA = 7
    ABNORMAL = 8
    STUCK = 9
    SPIKE = 10
    LOOP = 11
    BAD = 12
    STALE = 13


FAMILY: Final[dict[AlarmKind, Family]] = {
    AlarmKind.RATE: Family.RATE,
    AlarmKind.TIME_TO_LIMIT: Family.TIME_TO_LIMIT,
    AlarmKind.STEL: Family.STEL,
    AlarmKind.TWA: Family.TWA,
    AlarmKind.PEAKS: Family.PEAKS,
    AlarmKind.CUSUM: Family.CUSUM,
    AlarmKind.EWMA: Family.EWMA,
    AlarmKind.ABNORMAL: Family.ABNORMAL,
    AlarmKind.LOOP: Family.LOOP,
    AlarmKind.STUCK: Family.STUCK,
    AlarmKind.SPIKE: Family.SPIKE,
    AlarmKind.BAD: Family.BAD,
    AlarmKind.STALE: Family.STALE,
}
"""Of every kind but the limits."""
