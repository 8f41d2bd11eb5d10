"""Computed points: what is worked out of the readings of other points, and then alarmed on like any point."""

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from tocsin_core.plant.fields import Finite, Identifier, Listed, Strict

Members = Annotated[tuple[Identifier, ...], Listed]
Relative = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Vote(Strict):
    """M out of N: the value that `need` of the members have reached, so that any limit on it is a vote.

    High side: the need-th largest usable value, low side: the need-th smallest. With f members not usable, M becomes
    max(1, M - f) where a lost one counts as tripped (`safe`), min(M, N - f) where it does not (`available`):
    IEC 61511 practice.
    """

    rule: Literal["vote"] = Field(description="Which rule it is.")
    of: Members = Field(min_length=2, description="The redundant points.")
    need: Annotated[int, Field(ge=1)] = Field(description="M of M out of N.")
    side: Literal["high", "low"] = Field("high", description="Whether the alarms on it are high or low ones.")
    lost: Literal["safe", "available"] = Field(
        "safe", description="A member that is not usable counts as tripped (safe) or as not tripped (available)."
    )


class Median(Strict):
    """The median of the usable members: the middle one of three, the mean of two, or the one left."""

    rule: Literal["median"] = Field(description="Which rule it is.")
    of: Members = Field(min_length=2, description="The redundant points.")


class Spread(Strict):
    """How far neighbours are apart: the largest usable value less the smallest."""

    rule: Literal["spread"] = Field(description="Which rule it is.")
    of: Members = Field(min_length=2, description="The neighbouring points.")


class Balance(Strict):
    """The mass balance of a tank: what is missing over a window, in its standard uncertainties (positive: a loss)."""

    rule: Literal["balance"] = Field(description="Which rule it is.")
    level: Identifier = Field(description="Level of the tank, in m, cm, mm or % of the table's highest level.")
    temperature: Identifier | None = Field(
        None, description="Of the liquid, in °C; it counts as the reference if left out."
    )
    inflow: Members = Field(
        (),
        description="Flow meters into the tank, in kg/s, kg/h, t/h, or in m3/h or L/min at the reference temperature.",
    )
    outflow: Members = Field((), description="Flow meters out of the tank, in the same units.")
    window_h: Literal[1, 24] = Field(1, description="Over how many hours.")
    table: Annotated[tuple[Annotated[tuple[Finite, Finite], Listed], ...], Listed] = Field(
        min_length=2, description="Strapping table: pairs of level (m) and volume (m3), rising."
    )
    density: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        description="Of the liquid at the reference temperature, kg/m3."
    )
    reference: Finite = Field(15.0, description="Reference temperature, °C.")
    beta: Relative = Field(0.00095, description="Expansion of the liquid, 1/K; petrol's if left out.")
    gamma: Relative = Field(22.4e-6, description="Expansion of the shell's area, 1/K; twice carbon steel's linear one.")
    level_u: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        0.002, description="Standard uncertainty of the level, m."
    )
    temperature_u: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.5, description="Standard uncertainty of the temperature, K."
    )
    in_u: Relative = Field(0.005, description="Relative standard uncertainty of what flowed in.")
    out_u: Relative = Field(0.005, description="Relative standard uncertainty of what flowed out.")
    table_u: Relative = Field(0.002, description="Relative standard uncertainty of the table.")


class Grade(Strict):
    """Grade of a tailings pond, 0 (none) to 4 (red), from the blue, yellow, orange and red alarms of its points.

    GB 39496-2020 5.5.4.
    """

    rule: Literal["grade"] = Field(description="Which rule it is.")
    items: Annotated[tuple[Members, ...], Listed] = Field(
        min_length=1, description="The monitored items of the pond, each a list of its points."
    )


class Normal(Strict):
    """How far a unit is from its normal running, as `tocsin learn` recorded it: 1 is where its alarm is raised."""

    rule: Literal["normal"] = Field(description="Which rule it is.")
    model: Identifier = Field(description="File in the plant's folder `models`, without .normal.")
    show: Literal["score", "t2", "q"] = Field(
        "score", description="The whole judgement, or one of its statistics, each with 1 where it counts."
    )


Compute = Annotated[Vote | Median | Spread | Balance | Grade | Normal, Field(discriminator="rule")]
RULES: Final = frozenset(
    name
    for each in (Vote, Median, Spread, Balance, Grade, Normal)
    for name in get_args(each.model_fields["rule"].annotation)
)
"""What `rule` may be."""


def points_of(rule: Compute, modelled: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The points that `rule` is computed from, in the order of the file, a point named twice twice.

    `modelled`: the points of each normal-operation model; a model that is not there has none.
    """
    match rule:
        case Balance():
            temperature = () if rule.temperature is None else (rule.temperature,)
            return (rule.level, *temperature, *rule.inflow, *rule.outflow)
        case Grade():
            return tuple(chain.from_iterable(rule.items))
        case Normal():
            return modelled.get(rule.model, ())
        case _:
            return rule.of
