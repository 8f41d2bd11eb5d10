"""Telegraf with its Modbus input and its MQTT output in a side-by-side run, its buffer on disk."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.bench.side_by_side.counter import Arrival
from tests.bench.side_by_side.devices import BLOCKS, VALUES, address_of
from tests.bench.side_by_side.given import GivenPeer
from tests.bench.side_by_side.peer import Message, Start

TOPIC: Final = "telegraf"
# A message that is not acknowledged within `timeout` is sent anew as another one: it is longer than any outage here.
AGENT: Final = """
[agent]
  interval = "{period_ms}ms"
  precision = "1ms"
  flush_interval = "100ms"
  metric_batch_size = 1000
  metric_buffer_limit = 1000000
  buffer_strategy = "disk"
  buffer_directory = "{buffer}"
  omit_hostname = true

[[outputs.mqtt]]
  servers = ["mqtt://127.0.0.1:{mqtt}"]
  topic = "{topic}"
  client_id = "bench"
  qos = 1
  keep_alive = 10
  timeout = "120s"
  startup_error_behavior = "retry"
  layout = "batch"
  data_format = "json"
  json_timestamp_units = "1ms"
"""
INPUT: Final = """
[[inputs.modbus]]
  name = "d{number}"
  slave_id = 1
  timeout = "1s"
  controller = "tcp://127.0.0.1:{port}"
  configuration_type = "request"
  exclude_register_type_tag = true
"""
REQUEST: Final = """
  [[inputs.modbus.request]]
    slave_id = 1
    byte_order = "ABCD"
    register = "holding"
    fields = [{fields}]
"""


class Telegraf(GivenPeer):
    """The program that `TOCSIN_BENCH_TELEGRAF` names."""

    name = "telegraf"
    variable = "TOCSIN_BENCH_TELEGRAF"

    def configure(self, folder: Path, ports: Sequence[int], mqtt: int, period_s: float) -> Start:
        """One input a device, each block of registers one question; QoS 1, a message for all that is due."""
        buffer = folder / "buffer"
        buffer.mkdir(parents=True)
        told = AGENT.format(period_ms=round(period_s * 1000), buffer=buffer, mqtt=mqtt, topic=TOPIC)
        for number, port in enumerate(ports, start=1):
            told += INPUT.format(number=number, port=port)
            for block in range(len(BLOCKS)):
                places = range(block * VALUES, (block + 1) * VALUES)
                fields = (
                    f'{{ address = {address_of(place)}, name = "p{place}", type = "UINT32" }}' for place in places
                )
                told += REQUEST.format(fields=", ".join(fields))
        (folder / "telegraf.conf").write_text(told, encoding="utf-8")
        return Start((str(self._program), "--config", "telegraf.conf"), folder)

    def arrivals(self, messages: Iterable[Message]) -> list[Arrival]:
        """Every field of the batches."""
        found: list[Arrival] = []
        for message in messages:
            if message.topic != TOPIC:
                continue
            for metric in json.loads(message.payload)["metrics"]:
                device, stamp_ms = int(metric["tags"]["name"][1:]), metric["timestamp"]
                found += [
                    Arrival(device, int(name[1:]), value, stamp_ms, message.at_s)
                    for name, value in metric["fields"].items()
                ]
        return found
