"""What a broker answers to a subscription."""

from collections.abc import Sequence
from typing import Final

from paho.mqtt.reasoncodes import ReasonCode

REFUSED: Final = 0x80


def refused(filters: Sequence[str], answer: Sequence[int | ReasonCode]) -> tuple[str, ...]:
    """Give those of `filters` that the broker refuses: MQTT 3.1.1 (3.9.3) has 0x80 then in place of the QoS granted."""
    codes = (code if isinstance(code, int) else code.value for code in answer)
    return tuple(each for each, code in zip(filters, codes, strict=False) if code >= REFUSED)
