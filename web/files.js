/** The files of an adapter, and what a prepared model says of itself: docs/adapter-format.md, docs/browser.md. */

export const TENSORS = "adapter_model.safetensors", CONFIG = "adapter_config.json";

export class Skip2Error extends Error {}

export const sorted = (value) => {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
};

async function digest(arrays, description) {
  if (globalThis.crypto?.subtle === undefined) {
    throw new Skip2Error("this page may not compute SHA-256, expected https or localhost: serve it so");
  }
  const encoder = new TextEncoder(), parts = [encoder.encode(JSON.stringify(sorted(description)))];
  for (const name of Object.keys(arrays).sort()) {
    const [shape, values] = arrays[name];
    parts.push(encoder.encode(`\0${name}\0(${shape.join(", ")}${shape.length === 1 ? "," : ""})\0`));
    parts.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  const hash = await crypto.subtle.digest("SHA-256", joined(parts));
  return "sha256:" + [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A .safetensors file: the length of a JSON header, the header, the numbers. */
export async function writeTensors(arrays, description) {
  const own = { ...description, sha256: await digest(arrays, description) };
  const header = { __metadata__: { skip2lora: JSON.stringify(sorted(own)) } }, data = [];
  let at = 0;
  for (const name of Object.keys(arrays).sort()) {
    const [shape, values] = arrays[name];
    header[name] = { dtype: "F32", shape, data_offsets: [at, (at += values.byteLength)] };
    data.push(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }
  let text = new TextEncoder().encode(JSON.stringify(header));
  text = joined([text, new Uint8Array(-text.length & 7).fill(32)]);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(text.length), true);
  return joined([length, text, ...data]);
}

export async function readTensors(bytes) {
  const broken = (what) => new Skip2Error(`${TENSORS} ${what}, expected one that skip2lora wrote: copy it again`);
  let header, description, start;
  const arrays = {}, shaped = {};
  try {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    start = 8 + Number(view.getBigUint64(0, true));
    header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
    description = JSON.parse(header.__metadata__.skip2lora);
    const { __metadata__: _, ...tensors } = header;
    for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(tensors)) {
      if (dtype !== "F32" || start + to > bytes.length) throw new RangeError(name);
      arrays[name] = new Float32Array(bytes.slice(start + from, start + to).buffer);
      shaped[name] = [shape, arrays[name]];
    }
  } catch (error) {
    if (error instanceof Skip2Error) throw error;
    throw broken(`cannot be read (${error.message})`);
  }
  const { sha256, ...rest } = description;
  if (rest.kind !== "adapter" || rest.version !== 1) throw broken("is of another kind or version");
  if ((await digest(shaped, rest)) !== sha256) throw broken("does not match its digest");
  return { arrays, description };
}

// ---- a model that `skip2lora prepare` gave ----------------------------------------------------------

/** Fields of a protocol buffer: [number, value], of which only byte strings are looked into. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0, unit = 1, byte;
    do {
      byte = bytes[at++];
      value += (byte & 127) * unit;
      unit *= 128;
    } while (byte > 127);
    return value;
  };
  while (at < bytes.length) {
    const key = varint(), kind = key & 7;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      yield [Math.floor(key / 8), bytes.subarray(at, at + length)];
      at += length;
    } else return;
  }
}

export function describe(bytes, file = null) {
  const text = new TextDecoder();
  for (const [number, entry] of fields(bytes)) {
    if (number !== 14) continue; // metadata_props of ModelProto: key 1, value 2
    const [key, value] = [...fields(entry)].map(([, part]) => text.decode(part));
    if (key === "skip2lora") return { ...JSON.parse(value), file };
  }
  throw new Skip2Error("the model has no taps, expected one of `skip2lora prepare model.onnx -o tapped.onnx`");
}

export function rowsOf(model, results) {
  const width = (name) => results[name].dims[results[name].dims.length - 1];
  const count = results[model.outputs[0]].data.length / width(model.outputs[0]);
  const part = (name, s) => results[name].data.slice(s * width(name), (s + 1) * width(name));
  return Array.from({ length: count }, (_, s) => ({
    taps: model.outputs.map((name) => part(name, s)),
    logits: part(model.logits, s),
  }));
}
