"""The files for a gateway's box: checked by the programs that read them, and against what the gateway does."""

import asyncio
import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.edge.rig import Slave, modbus_device, plant
from tests.support.need import ROOT, need_program
from tests.support.ports import free_port
from tests.support.wait import eventually_async

BOX: Final = ROOT / "firmware-configs" / "gateways"
UNIT: Final = BOX / "systemd" / "tocsin-edge@.service"
PROGRAM: Final = "/opt/tocsin/bin/tocsin"
# What a rule of udev is made of (udev(7)).
RULE: Final = re.compile(r'[A-Z]+(\{\w+\})?(==|!=|=|\+=)"[^"]*"')


def settings(file: Path) -> dict[str, list[str]]:
    """Read a file of systemd: the values of each key."""
    found: dict[str, list[str]] = {}
    for line in file.read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def lines(name: str) -> list[str]:
    """Read a file's lines without comments and empty ones."""
    return [line for line in (BOX / name).read_text("utf-8").splitlines() if line.strip() and not line.startswith("#")]


def analyzed(tmp_path: Path, unit: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Let systemd look at a unit whose program is there."""
    program = need_program("systemd-analyze")
    file = tmp_path / UNIT.name
    file.write_text(unit.replace(PROGRAM, sys.executable), encoding="utf-8")
    return subprocess.run([program, *arguments, str(file)], capture_output=True, text=True, check=False)


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds no fault, and does find one that is put in."""
    text = UNIT.read_text("utf-8")
    found = analyzed(tmp_path, text, "verify")
    assert (found.returncode, found.stderr) == (0, "")
    assert "WatchdogSek" in analyzed(tmp_path, text.replace("WatchdogSec", "WatchdogSek"), "verify").stderr


def test_the_unit_gives_little_away(tmp_path: Path) -> None:
    """`systemd-analyze security` rates its exposure below 3 of 10; without the hardening it is above 9."""
    text = UNIT.read_text("utf-8")
    assert analyzed(tmp_path, text, "security", "--offline=true", "--threshold=30").returncode == 0
    bare = "[Service]\nExecStart=/bin/true\n"
    assert analyzed(tmp_path, bare, "security", "--offline=true", "--threshold=90").returncode != 0


def test_the_unit_is_what_the_gateway_needs() -> None:
    """It is watched, started anew for ever, may ask for the clock's state, and reaches serial ports and its folder."""
    unit = settings(UNIT)
    for key, value in {
        "Type": "notify",
        "WatchdogSec": "30s",
        "Restart": "always",
        "StartLimitIntervalSec": "0",
        "User": "tocsin",
        "StateDirectory": "tocsin",
        "ProtectSystem": "strict",
        "DevicePolicy": "closed",
        "CapabilityBoundingSet": "",
    }.items():
        assert unit[key] == [value], key
    # adapters/clock_sync.py asks adjtimex, and ProtectClock or the plain set would refuse it.
    assert "ProtectClock" not in unit
    assert {"@system-service", "adjtimex", "clock_adjtime"} <= set(unit["SystemCallFilter"][0].split())
    # adapters/spool_file.py reads /proc/sys/kernel/random/boot_id.
    assert "ProcSubset" not in unit
    users = [line.split()[1] for line in lines("systemd/sysusers.conf")]
    assert unit["User"] == users
    assert set(lines("systemd/modules-load.conf")) == {"usbserial", "cdc_acm"}
    drivers = {value.split()[0].removeprefix("char-") for value in unit["DeviceAllow"]}
    assert drivers == {"ttyAMA", "ttyS", "ttyUSB", "ttyACM", "ttySC"}
    assert settings(BOX / "systemd" / "watchdog.conf")["RuntimeWatchdogSec"] == ["14s"]


def test_the_unit_s_command_starts_a_gateway(tmp_path: Path) -> None:
    """The very command, with this machine's places in it, becomes ready."""
    command = settings(UNIT)["ExecStart"][0]
    for here, there in {
        PROGRAM: f"{sys.executable} -m tocsin_cli",
        "/etc/tocsin/plant": str(tmp_path / "plant"),
        "/var/lib/tocsin": str(tmp_path / "data"),
        "%i": "gw",
        "9464": str(free_port()),
    }.items():
        assert here in command
        command = command.replace(here, there)

    async def story() -> None:
        async with Slave({1: 1.5}).serve() as slave:
            plant(tmp_path / "plant", 1, {"A": modbus_device("A", slave.port)})
            with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
                manager.bind(str(tmp_path / "notify"))
                manager.settimeout(0.05)
                environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}
                gateway = await asyncio.create_subprocess_exec(
                    *shlex.split(command), env=environment, stderr=asyncio.subprocess.DEVNULL
                )
                try:
                    await eventually_async(lambda: word(manager) == "READY=1")
                finally:
                    gateway.terminate()
                    await gateway.wait()
            assert gateway.returncode == 0

    asyncio.run(story())


def word(manager: socket.socket) -> str:
    """Take what is next, nothing if there is nothing yet."""
    try:
        return manager.recv(4096).decode()
    except TimeoutError:
        return ""


def firewall(text: str, tmp_path: Path) -> str:
    """Let nft look at rules, and give its complaints."""
    nft = need_program("nft")
    (tmp_path / "rules").write_text(text, encoding="utf-8")
    command = [nft, "-c", "-f", str(tmp_path / "rules")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("nobody here may look at the kernel's packet filter")
    return done.stderr if done.returncode else ""


def test_nft_accepts_the_firewall(tmp_path: Path) -> None:
    """`nft -c` finds no fault, and does find one that is put in."""
    text = (BOX / "nftables.conf").read_text("utf-8")
    for_sensors = text.replace("#ip ", "ip ")
    assert for_sensors.count("$sensors_port") == 2
    assert [firewall(each, tmp_path) for each in (text, for_sensors)] == ["", ""]
    assert "syntax error" in firewall(text.replace("policy drop", "policy dropp"), tmp_path)


def test_the_firewall_lets_nobody_in_and_nothing_through() -> None:
    """All three ways are shut by default; from outside only administrators may log in, nobody gets the figures.

    Whoever has MQTT sensors that publish to the box itself lets them in, and nobody else. A DHCP server on IPv6 answers
    from its own address what was asked of all servers, which no connection stands for.
    """
    text = "\n".join(lines("nftables.conf"))
    assert re.findall(r"hook (\w+) priority filter; policy (\w+);", text) == [
        ("input", "drop"),
        ("forward", "drop"),
        ("output", "drop"),
    ]
    inward = text[text.index("chain input") : text.index("chain forward")]
    assert [line.strip() for line in inward.splitlines() if "dport" in line] == [
        "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
        "ip saddr $administrators tcp dport 22 ct state new limit rate 6/minute accept",
        "#ip saddr $instruments tcp dport $sensors_port accept",
    ]


def test_rules_of_udev_are_rules() -> None:
    """Each is a list of matches and assignments, and gives names below /dev/tocsin."""
    rules = lines("70-tocsin-serial.rules")
    assert len(rules) == 4
    for rule in rules:
        assert all(RULE.fullmatch(part) for part in rule.split(", ")), rule
    assert [re.findall(r'SYMLINK\+="(.*?)"', rule) for rule in rules][:3] == [
        ["tocsin/line1"],
        ["tocsin/line2"],
        ["tocsin/line3"],
    ]


def test_config_txt_holds_sections_and_settings_of_a_length_that_is_read() -> None:
    """A line is read up to 98 characters; overlays are set on the boards that have them."""
    text = (BOX / "config.txt").read_text("utf-8").splitlines()
    plain = [line for line in text if line and not line.startswith("# ")]
    assert all(re.fullmatch(r"\[(all|pi\d)\]|#?(dtoverlay|dtparam|enable_uart)=[\w=,-]+", line) for line in plain)
    assert all(len(line) <= 98 for line in plain)
    assert text[text.index("[pi5]") :][2] == "dtoverlay=uart0-pi5"


def test_chrony_steps_the_clock_only_after_the_start() -> None:
    """Later it steers; the kernel hears of it, and nobody is answered."""
    found = lines("chrony.conf")
    assert {"makestep 1 3", "rtcsync", "port 0"} <= set(found)
    assert sum(line.startswith("server ") for line in found) >= 2


def test_each_file_has_its_place_in_the_readme() -> None:
    """What is in the folder is in the table that says where it goes."""
    readme = (BOX / "README.md").read_text("utf-8")
    files = {str(file.relative_to(BOX)) for file in BOX.rglob("*") if file.is_file() and file.name != "README.md"}
    assert set(re.findall(r"^\| `([^`]+)` \|", readme, re.MULTILINE)) == files
