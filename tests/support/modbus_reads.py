"""Reads a device through a read plan with pymodbus, as a gateway would, without a gateway."""

from collections.abc import Sequence

import numpy as np
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from tocsin_core.readings import BAD_COMM_FAILURE, BAD_DEVICE_FAILURE
from tocsin_core.registers import Decoded, Profile, ReadPlan, ReadRequest, Reply, compile_plan


async def read(profile: Profile, wanted: Sequence[str], port: int, unit: int, timeout_s: float = 2) -> Decoded:
    """Read `wanted` once; a request without an answer is a comm failure, one refused a device failure."""
    plan: ReadPlan = compile_plan(profile, wanted)
    client = AsyncModbusTcpClient("127.0.0.1", port=port, timeout=timeout_s, retries=0)
    try:
        if not await client.connect():
            return plan.decode([BAD_COMM_FAILURE] * len(plan.requests))
        return plan.decode([await _ask(client, request, unit) for request in plan.requests])
    finally:
        client.close()


async def _ask(client: AsyncModbusTcpClient, request: ReadRequest, unit: int) -> Reply:
    ask = {
        1: client.read_coils,
        2: client.read_discrete_inputs,
        3: client.read_holding_registers,
        4: client.read_input_registers,
    }[request.function]
    try:
        answer = await ask(request.address, count=request.count, device_id=unit)
    except ModbusIOException:
        return BAD_COMM_FAILURE
    if answer.isError():
        return BAD_DEVICE_FAILURE
    return list(answer.bits) if request.function <= 2 else np.array(answer.registers, dtype=np.uint16)
