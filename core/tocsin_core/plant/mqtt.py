"""How an MQTT sensor publishes: its topic, paths, words and will; and what must hold of them."""

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from tocsin_core.plant.fields import Finite, Listed, Seconds, Strict
from tocsin_core.plant.source import Path, Source
from tocsin_core.sensors import PathError, filter_problem, parse_path, sparkplug_source


def _is_filter(text: str) -> str:
    problem = filter_problem(text)
    if problem is not None:
        raise ValueError(problem)
    return text


def _is_path(text: str) -> str:
    parse_path(text)
    return text


Topic = Annotated[str, AfterValidator(_is_filter)]
JsonPath = Annotated[str, AfterValidator(_is_path)]


def _wild(topic: str) -> bool:
    return "+" in topic or topic.endswith("#")


class Offline(Strict):
    """Where it is said, by the sensor's last will mostly, that the sensor is gone."""

    topic: Topic = Field(description="Topic of the will; its wildcards stand for the same as those of the sensor's.")
    payload: str = Field("offline", description="What the will says; anything else there says nothing.")


class Mqtt(Strict):
    """Where an MQTT sensor publishes, and how its payload is read."""

    topic: Topic = Field(
        description="Where the sensor publishes; `+` and `#` stand for its `name`. `spBv1.0/GROUP/+/NODE/DEVICE`:"
        " it is a device of a Sparkplug B edge node."
    )
    name: str | None = Field(
        None, min_length=1, description="What the wildcards stand for, `/` between; the device's id if left out."
    )
    time: JsonPath | None = Field(
        None, description="Path of the time stamp (RFC 3339, or epoch s, ms, us or ns); arrival if left out."
    )
    time_window_s: Annotated[tuple[Seconds, Seconds], Listed] = Field(
        (86400.0, 60.0),
        description="How far the time stamp may lie behind and ahead of its arrival, else the arrival counts;"
        " 86400 and 60 if left out.",
    )
    words: dict[Annotated[str, Field(min_length=1, max_length=64)], Finite] = Field(
        default_factory=dict,
        description="Further texts that stand for a number; on, off, true, false, yes and no are known.",
    )
    offline: Offline | None = Field(None, description="Where it is said that the sensor is gone.")

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if sparkplug_source(self.topic) is not None and self.model_fields_set - {"topic"}:
            msg = "Sparkplug has its own times, deaths and names: give the topic alone"
            raise ValueError(msg)
        if self.name is not None and not _wild(self.topic):
            msg = "a topic without wildcards has no use for a name"
            raise ValueError(msg)
        if self.name is None and self.offline is not None and _wild(self.offline.topic) and not _wild(self.topic):
            msg = "the wildcards of the will's topic stand for nothing: the sensor's topic has none"
            raise ValueError(msg)
        if len({word.lower() for word in self.words}) < len(self.words):
            msg = "the same word stands twice: large and small letters do not count"
            raise ValueError(msg)
        return self


def check_field(mqtt: Mqtt, field: str, path: Path, source: Source) -> None:
    """Note in `source` where the `field` at `path` cannot be read of this sensor."""
    if sparkplug_source(mqtt.topic) is not None:
        if not field:
            source.problem(path, "the field of a Sparkplug sensor is its metric's name")
        return
    try:
        parse_path(field)
    except PathError as error:
        source.problem(path, f"no path into JSON: {error} (given: {field!r})")


def check_sensors(found: Iterable[tuple[Path, str, Mqtt]], source: Source) -> None:
    """Note in `source` which of these sensors (path of the device, gateway's id, settings) is the gateway itself."""
    site = source.data.get("site") if isinstance(source.data, dict) else None
    group = site.get("id") if isinstance(site, dict) else None
    for path, gateway, mqtt in found:
        node = sparkplug_source(mqtt.topic)
        if node is not None and (node.group, node.node) == (group, gateway):
            source.problem((*path, "mqtt", "topic"), "this is what the gateway itself publishes")
