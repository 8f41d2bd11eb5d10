// An edge node made with sparkplug-client: births, again where a host asks, data when told by a line on stdin, then a
// death by its will.
const { newClient } = require("sparkplug-client");

const client = newClient({
  serverUrl: process.argv[2],
  username: "anybody",
  password: "anybody",
  groupId: "site",
  edgeNode: "peer",
  clientId: "peer",
  version: "spBv1.0",
});
const now = Date.now();

const beBorn = () => {
  client.publishNodeBirth({
    timestamp: now,
    metrics: [{ name: "bdSeq", type: "UInt64", value: 0 }, { name: "uptime", type: "Int32", value: -7 }],
  });
  client.publishDeviceBirth("tank", {
    timestamp: now,
    metrics: [
      { name: "level", type: "Double", value: 1.25, timestamp: now, properties: { engUnit: { type: "String", value: "m" } } },
      { name: "pump", type: "Boolean", value: true, timestamp: now },
      { name: "label", type: "String", value: "north", timestamp: now },
    ],
  });
};
client.on("birth", beBorn);
client.on("ncmd", ({ metrics }) => {
  if (metrics.some(({ name, value }) => name === "Node Control/Rebirth" && value)) beBorn();
});
process.stdin.once("data", () => {
  client.publishDeviceData("tank", {
    timestamp: now,
    metrics: [
      { name: "level", type: "Double", value: 2.5, timestamp: now + 1 },
      { name: "pump", type: "Boolean", value: false, timestamp: now + 1 },
    ],
  });
  setTimeout(() => process.exit(1), 500);
});
