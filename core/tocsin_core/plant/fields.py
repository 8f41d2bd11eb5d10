"""What the plant file's models are made of: strict models, forms of ids and addresses, texts in two languages."""

from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

IDENTIFIER: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
HOST: Final = r"^[A-Za-z0-9_.:-]{1,253}$"
PORT_FILE: Final = r"^/[^\s\x00]{1,200}$"
CAS: Final = r"^\d{2,7}-\d\d-\d$"
CHANNEL: Final = r"^[a-z0-9+.-]+://"
ALARM: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}/[A-Za-z-]{1,64}$"
TIME_OF_DAY: Final = r"^([01]\d|2[0-3]):[0-5]\d$"
FORMS: Final = {
    IDENTIFIER: "letters, digits, `_`, `.` and `-`, beginning with a letter or digit, at most 64",
    HOST: "a host name or address",
    PORT_FILE: "a device file like /dev/ttyUSB0",
    CAS: "a CAS number like 7664-41-7",
    CHANNEL: "an Apprise address like mailto://…",
    ALARM: "an alarm like P-101/HH",
    TIME_OF_DAY: "a time of day in quotes, from 00:00 to 23:59",
}
"""What each pattern asks for, in words."""

Identifier = Annotated[str, StringConstraints(pattern=IDENTIFIER)]
Host = Annotated[str, StringConstraints(pattern=HOST)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=7 * 86400, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """A frozen model in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, defer_build=True)


def _both_languages(value: object) -> object:
    return {"zh": value, "en": value} if isinstance(value, str) else value


class _Name(Strict):
    zh: str = Field(min_length=1, description="Chinese text.")
    en: str = Field(min_length=1, description="English text.")


Name = Annotated[_Name, BeforeValidator(_both_languages)]


def name_of(zh: str, en: str) -> _Name:
    """A text of ours in both languages, unchecked: the start of a gateway makes none of the checkers."""
    return _Name.model_construct(zh=zh, en=en)


Text = _Name


def _pair(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


# JSON and YAML know lists only; the models hold tuples.
Listed: Final = BeforeValidator(_pair)
Range = Annotated[tuple[Finite, Finite], Listed]
