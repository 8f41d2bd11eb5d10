"""What is wrong with a value, said in an integrator's words."""

from typing import Final

from pydantic_core import ErrorDetails

from tocsin_core.plant.fields import FORMS

# pydantic's words are Python's; an integrator reads YAML.
_PLAIN_MESSAGE: Final = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "union_tag_not_found": "is missing",
    "model_type": "should be a mapping",
    "model_attributes_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "tuple_type": "should be a list",
    "too_short": "is empty",
    "too_long": "has too many items",
}


def message_of(error: ErrorDetails) -> str:
    """One line for one of pydantic's errors."""
    if error["type"] == "union_tag_invalid":
        return f"should be one of {error['ctx']['expected_tags']} (given: {error['ctx']['tag']!r})"
    if error["type"] == "too_short" and error["input"]:
        return f"has too few items: at least {error['ctx']['min_length']}"
    if error["type"] in _PLAIN_MESSAGE:
        return _PLAIN_MESSAGE[error["type"]]
    text = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "should be")
    if error["type"] == "string_pattern_mismatch":
        text = f"should be {FORMS[error['ctx']['pattern']]}"
    given = error["input"]
    return f"{text} (given: {given!r})" if isinstance(given, str | int | float | bool) else text
