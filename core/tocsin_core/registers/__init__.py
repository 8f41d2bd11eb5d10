"""Device profiles compiled into read plans: few legal Modbus requests, their answers turned into values."""

from tocsin_core.registers.codec import EncodeError, encode, encode_text
from tocsin_core.registers.decode import Decoded
from tocsin_core.registers.parse import ProfileError, ProfileProblem, parse_profile
from tocsin_core.registers.plan import ReadPlan, Reply, compile_plan
from tocsin_core.registers.profile import (
    Profile,
    RegisterValue,
    StatusQuality,
    StatusRule,
    Trust,
)
from tocsin_core.registers.requests import TCP, Hole, Line, ReadRequest, holes_of

__all__ = [
    "TCP",
    "Decoded",
    "EncodeError",
    "Hole",
    "Line",
    "Profile",
    "ProfileError",
    "ProfileProblem",
    "ReadPlan",
    "ReadRequest",
    "RegisterValue",
    "Reply",
    "StatusQuality",
    "StatusRule",
    "Trust",
    "compile_plan",
    "encode",
    "encode_text",
    "holes_of",
    "parse_profile",
]
