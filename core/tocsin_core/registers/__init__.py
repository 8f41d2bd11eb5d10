"""Device profiles compiled into read plans: few legal Modbus requests, their answers turned into values."""

from tocsin_core.registers.codec import EncodeError, encode
from tocsin_core.registers.plan import Decoded, ReadPlan, ReadRequest, Reply, compile_plan
from tocsin_core.registers.profile import (
    Profile,
    ProfileError,
    RegisterValue,
    StatusQuality,
    StatusRule,
    Trust,
    parse_profile,
)

__all__ = [
    "Decoded",
    "EncodeError",
    "Profile",
    "ProfileError",
    "ReadPlan",
    "ReadRequest",
    "RegisterValue",
    "Reply",
    "StatusQuality",
    "StatusRule",
    "Trust",
    "compile_plan",
    "encode",
    "parse_profile",
]
