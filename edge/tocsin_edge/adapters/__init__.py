"""The gateway's ways to the outside: Modbus devices, MQTT sensors, the broker uphill, and the spool on disk."""
