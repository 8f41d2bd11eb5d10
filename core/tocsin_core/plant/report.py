"""Report by exception of one point, as the plant file has it."""

from typing import Annotated

from pydantic import Field

from tocsin_core.plant.fields import Strict


class Report(Strict):
    """Report by exception: readings that tell nothing new stay in the gateway."""

    deadband: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        description="In the point's unit; a good reading that differs by no more from the one told last is not told."
    )
    longest_s: Annotated[float, Field(ge=1, le=86400)] = Field(
        description="Told at the latest after this long all the same; at most half of what makes the point stale."
    )
