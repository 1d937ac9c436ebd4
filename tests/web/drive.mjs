// Does one job of tests/web/test_package.py: JSON on standard input, JSON on standard output.
import { readFile, writeFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { stdin, stdout } from "node:process";

const job = JSON.parse(await text(stdin));
const { Skip2, Skip2Error, describe } = await import(job.package);
const names = ["adapter_model.safetensors", "adapter_config.json"];
const floats = (values) => Float32Array.from(values, Number);
const encoded = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");

async function main() {
  const core = await Skip2.load(await readFile(job.module));
  const rows = job.rows.map((row) => ({ taps: row.taps.map(floats), logits: floats(row.logits) }));
  const epochs = [];
  let adapter;
  if (job.open) {
    const files = {};
    for (const name of names) files[name] = new Uint8Array(await readFile(`${job.open}/${name}`));
    adapter = await core.open(files);
  } else {
    adapter = core[job.call](rows, job.labels, { ...job.options, onEpoch: (epoch) => epochs.push(epoch) });
  }
  const model = job.prepared ? describe(new Uint8Array(await readFile(job.prepared)), job.file) : job.model;
  if (job.save) {
    for (const [name, bytes] of Object.entries(await adapter.save(model))) await writeFile(`${job.save}/${name}`, bytes);
  }
  return {
    model, epochs, rank: adapter.rank, fingerprint: adapter.fingerprint,
    lora_a: adapter.loraA.map(encoded), lora_b: adapter.loraB.map(encoded), bias: encoded(adapter.bias),
    logits: encoded(adapter.logits(rows)), predictions: adapter.predict(rows),
  };
}

const result = await main().catch((error) => {
  if (error instanceof Skip2Error) return { refused: error.message };
  throw error;
});
stdout.write(JSON.stringify(result));
