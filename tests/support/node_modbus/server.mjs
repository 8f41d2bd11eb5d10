// A Modbus TCP server of npm's modbus-serial: lays numbers out with node's own Buffer, in every word order, at the
// addresses of the profile tocsin-word-orders. Usage: node server.mjs PORT '{"f32": 100.25, ...}'; prints "listening" when it is.
import modbus from "modbus-serial";

const [port, numbers] = [Number(process.argv[2]), JSON.parse(process.argv[3])];
const holding = Buffer.alloc(128);
const input = Buffer.alloc(128);

const swapWords = (bytes) => Buffer.concat([bytes.subarray(2), bytes.subarray(0, 2)]);

function fourOrders(register, big, little) {
  big.copy(holding, register * 2); // ABCD
  swapWords(big).copy(holding, (register + 2) * 2); // CDAB
  little.copy(holding, (register + 4) * 2); // DCBA
  swapWords(little).copy(holding, (register + 6) * 2); // BADC
}

const bytes = (size, write) => {
  const buffer = Buffer.alloc(size);
  write(buffer);
  return buffer;
};

fourOrders(0, bytes(4, (b) => b.writeFloatBE(numbers.f32)), bytes(4, (b) => b.writeFloatLE(numbers.f32)));
fourOrders(8, bytes(4, (b) => b.writeInt32BE(numbers.s32)), bytes(4, (b) => b.writeInt32LE(numbers.s32)));
holding.writeDoubleBE(numbers.f64, 16 * 2);
// A little-endian double with the bytes of each word turned round is its words in reverse: GHEFCDAB.
bytes(8, (b) => b.writeDoubleLE(numbers.f64)).swap16().copy(holding, 20 * 2);
holding.writeInt16BE(numbers.s16, 24 * 2);
input.writeUInt16BE(numbers.u16, 24 * 2);

const server = new modbus.ServerTCP(
  {
    getHoldingRegister: (address) => holding.readUInt16BE(address * 2),
    getInputRegister: (address) => input.readUInt16BE(address * 2),
    getCoil: (address) => address === 3,
    getDiscreteInput: (address) => address === 9,
  },
  { host: "127.0.0.1", port, unitID: 7 },
);
server.on("initialized", () => console.log("listening"));
server.on("serverError", (error) => {
  console.error(error.message);
  process.exit(1);
});
