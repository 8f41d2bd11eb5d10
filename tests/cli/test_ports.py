"""A demo whose ports are held by another program runs on others."""

import socket
from pathlib import Path

from tests.support.plants import copy_plant
from tocsin_cli.demo.ports import on_free_ports, taken, uplink
from tocsin_core.plant import load_plant
from tocsin_sim.app import links_of


def test_a_plant_on_free_ports_is_left_alone(tmp_path: Path) -> None:
    """Where nothing is in the way the plant runs as it stands in its folder."""
    folder = copy_plant("coal-mine-face", tmp_path)
    plant = load_plant(folder)
    assert on_free_ports(plant, folder, [], tmp_path / "home") == (plant, folder, [])


def test_only_what_is_held_moves(tmp_path: Path) -> None:
    """The held port is replaced everywhere it stands, the others stay, and nothing of the copy is held."""
    folder = copy_plant("ammonia-refrigeration", tmp_path)
    plant = load_plant(folder)
    (link,) = links_of(folder, "link-cut")
    with socket.create_server(uplink(plant)), socket.create_server((link.host, link.port)):
        moved, place, held = on_free_ports(plant, folder, [link], tmp_path / "home")
        (relaid,) = links_of(place, "link-cut")
        assert sorted(held) == sorted([uplink(plant), (link.host, link.port)])
        assert taken(moved, [relaid]) == []
    assert (relaid.to.host, relaid.to.port) == uplink(moved)
    assert place == tmp_path / "home" / "plant" / "ammonia-refrigeration"
    assert len({gateway.uplink.port for gateway in moved.file.gateways}) == 1
    assert uplink(moved) != uplink(plant)
    before = [device.modbus for gateway in plant.file.gateways for device in gateway.devices]
    assert [device.modbus for gateway in moved.file.gateways for device in gateway.devices] == before
