"""Which processes a demo consists of, from its plant and its options."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tocsin_cli.demo.ports import Address, uplink
from tocsin_cli.demo.processes import Spec
from tocsin_core.plant import Plant
from tocsin_sim.simulation import Link

BROKER: Final = "broker"
CLOUD: Final = "cloud"
PAGE: Final = "page"
PLANT: Final = "plant"


@dataclass(frozen=True, slots=True)
class Options:
    """What the demo was asked for; `links` are those that its scenario cuts."""

    folder: Path
    data: Path
    scenario: str | None
    seed: int
    speed: float
    play: Path | None
    links: tuple[Link, ...]
    http: Address
    nats: Address


@dataclass(frozen=True, slots=True)
class Specs:
    """The processes, by when they start: broker, cloud side and page, then the plant and its gateways."""

    broker: Spec
    cloud: Spec
    page: Spec
    plant: Spec
    gateways: tuple[Spec, ...]


def own_gateways(plant: Plant) -> list[str]:
    """Ids of the gateways that Tocsin itself runs."""
    return [gateway.id for gateway in plant.file.gateways if not gateway.external]


def _through(links: Sequence[Link], gateway: str) -> tuple[str, ...]:
    """What sends a gateway whose link is to be cut through that link."""
    return next((("--uplink", f"{link.host}:{link.port}") for link in links if link.gateway == gateway), ())


def specs(plant: Plant, options: Options) -> Specs:
    """The processes of the demo."""
    folder, data = str(options.folder), str(options.data)
    mqtt = "{}:{}".format(*uplink(plant))
    nats = "{}:{}".format(*options.nats)
    happens = () if options.scenario is None else ("--scenario", options.scenario)
    played = () if options.play is None else ("--play", str(options.play))
    http = "{}:{}".format(*options.http)
    cloud = ("cloud", folder, "--data", data, "--nats", f"nats://{nats}")
    sim = ("sim", folder, *happens, *played, "--seed", str(options.seed), "--speed", str(options.speed))
    return Specs(
        broker=Spec(BROKER, ("broker", "--data", data, "--mqtt", mqtt, "--nats", nats), 1.0),
        cloud=Spec(CLOUD, (*cloud, "--role", "workers", "--mqtt", mqtt), 1.5),
        page=Spec(PAGE, (*cloud, "--role", "api", "--http", http), 1.5),
        plant=Spec(PLANT, sim, 0.5),
        gateways=tuple(
            Spec(name, ("edge", folder, "--gateway", name, "--data", data, *_through(options.links, name)), 2.3)
            for name in own_gateways(plant)
        ),
    )
