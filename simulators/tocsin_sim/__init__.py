"""Simulated plants: physics, recorded data, Modbus and MQTT devices and their faults, all seeded."""
