"""The simulator's sockets: Modbus TCP servers, MQTT publishers, and the proxies in which links are cut."""
