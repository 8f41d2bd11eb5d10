// A host made with mqtt and sparkplug-payload: prints every Sparkplug message of the site as one line of JSON.
const mqtt = require("mqtt");
const { decodePayload } = require("sparkplug-payload").get("spBv1.0");

const client = mqtt.connect(process.argv[2]);
client.on("connect", () => client.subscribe("spBv1.0/site/#", () => console.log(JSON.stringify({ topic: "subscribed" }))));
client.on("message", (topic, payload) => {
  const plain = (_key, value) => (value && value.constructor && value.constructor.name === "Long" ? value.toNumber() : value);
  console.log(JSON.stringify({ topic, ...decodePayload(payload) }, plain));
});
