/**
 * Skip2-LoRA in a browser or in Node: adapters for a frozen model whose taps another runtime computes,
 * such as onnxruntime-web. Everything here is documented in index.d.ts.
 */

import { CONFIG, Skip2Error, TENSORS, readTensors, sorted, writeTensors } from "./files.js";

export { Skip2Error, describe, rowsOf } from "./files.js";

const STATUS = [
  "", "a width, a rank or a count is 0, or too large: check the rows, or take a smaller rank or batch",
  "a number is out of its range: check labels, learning rate and penalty",
  "there is not enough memory: keep fewer samples",
  "the loss became infinite or NaN, expected a number: take a smaller learning rate",
];
const OPTIMIZERS = { // rule, beta1, beta2, weight decay, whether it is decoupled
  sgd: [0, 0, 0, 0, 0], momentum: [1, 0.9, 0, 0, 0],
  adam: [2, 0.9, 0.999, 0, 0], adamw: [2, 0.9, 0.999, 0.01, 1],
};
const AT_ONCE = 64; // rows of a prediction

function check(status) {
  if (status !== 0) throw new Skip2Error(STATUS[status] ?? `the core returned status ${status}`);
}

/** The core, compiled once. */
export class Skip2 {
  constructor(module) {
    this.module = module;
  }

  static async load(source = new URL("skip2.wasm", import.meta.url)) {
    if (source instanceof WebAssembly.Module) return new Skip2(source);
    if (source instanceof URL && source.protocol === "file:" && globalThis.process?.versions?.node) {
      const { readFile } = await import("node:fs/promises");
      source = await readFile(source);
    } else if (source instanceof URL || typeof source === "string") {
      source = await fetch(source);
    }
    if (typeof Response !== "undefined" && source instanceof Response) {
      if (!source.ok) {
        throw new Skip2Error(`${source.url} gave status ${source.status}, expected skip2.wasm: copy it there`);
      }
      source = await source.arrayBuffer();
    }
    return new Skip2(await WebAssembly.compile(source));
  }

  fit(rows, labels, options = {}) {
    const {
      rank = 4, epochs = 50, learningRate = 0.001, batchSize = 20, optimizer = "adam", seed = 0,
      standardize = true, kernels, onEpoch,
    } = options;
    const rule = OPTIMIZERS[optimizer];
    if (rule === undefined) {
      throw new Skip2Error(`optimizer is ${optimizer}, expected one of ${Object.keys(OPTIMIZERS).join(", ")}`);
    }
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new Skip2Error(`seed is ${seed}, expected a whole number from 0`);
    }
    const shape = shapeOf(rows), n = rows.length, most = Math.min(batchSize, n);
    const core = new Core(this.module, shape, rank, most, kernels);
    const at = core.put(rows), label = core.labels(labels, n);
    const scaling = standardize ? core.scaling(at, n) : null;
    if (scaling) core.exports.scale(n, at, scaling.meanAt, scaling.scaleAt);
    core.exports.init(BigInt(seed));
    const [kind, beta1, beta2, decay, decoupled] = rule;
    check(core.exports.begin(n, at, label, most, BigInt(seed), kind, beta1, beta2, decay, decoupled));
    for (let epoch = 0; epoch < epochs; epoch++) {
      check(core.exports.epoch(learningRate));
      onEpoch?.({ epoch, loss: core.exports.loss(), accuracy: core.exports.correct() / n });
    }
    const parts = core.unpack();
    return new Adapter(this.module, shape, rank, scaling ? folded(parts, core, scaling) : parts, kernels);
  }

  solve(rows, labels, { penalty = 0.001, kernels } = {}) {
    const shape = shapeOf(rows), n = rows.length;
    const core = new Core(this.module, shape, 1, 1, kernels);
    core.labels(labels, n);
    const learned = [...new Set(labels)].sort((a, b) => a - b), count = learned.length;
    if (count < 2) {
      throw new Skip2Error(`got ${count} class in all ${n} samples, expected others too, to tell them apart: add some`);
    }
    const at = core.put(rows), scaling = core.scaling(at, n), lanes = core.exports.lanes(n);
    const [target, start, coefficients, products] = [0, 0, 0, 0].map(() => core.floats(count * lanes));
    const weight = core.floats(lanes), bias = core.floats(count);
    rows.forEach((row, s) => {
      core.f32[weight / 4 + s] = 1 / n;
      core.f32[target / 4 + learned.indexOf(labels[s]) * lanes + s] = 1;
      learned.forEach((o, i) => (core.f32[start / 4 + i * lanes + s] = row.logits[o]));
    });
    check(core.exports.solve(n, at, scaling.meanAt, scaling.scaleAt, count, target, weight, start,
      penalty, coefficients, products, bias));
    // From the few outputs that were learned to all.
    const rank = Math.min(count, Math.max(...shape.tapWidths));
    const parts = { loraA: [], loraB: [], bias: new Float32Array(shape.nOutputs) };
    for (const [tap, width] of shape.tapWidths.entries()) {
      const out = core.floats(width * count);
      check(core.exports.weights(tap, count, coefficients, out));
      const w = core.copy(out, width * count), wide = count > rank; // (width, count)
      const a = new Float32Array(width * rank), b = new Float32Array(rank * shape.nOutputs);
      for (let i = 0; i < width; i++) {
        if (wide) a[i * rank + i] = 1;
        for (let o = 0; o < count; o++) {
          if (wide) b[i * shape.nOutputs + learned[o]] = w[i * count + o];
          else a[i * rank + o] = w[i * count + o];
        }
      }
      if (!wide) learned.forEach((o, i) => (b[i * shape.nOutputs + o] = 1));
      parts.loraA.push(a);
      parts.loraB.push(b);
    }
    const own = core.copy(bias, count), product = core.copy(products, count * lanes);
    const logits = rows.map((row, s) => learned.map((o, i) => row.logits[o] + product[i * lanes + s] + own[i]));
    const shift = aboveOthers(rows, logits, learned);
    learned.forEach((o, i) => (parts.bias[o] = own[i] + shift));
    return new Adapter(this.module, shape, rank, folded(parts, core, scaling), kernels);
  }

  async open(files) {
    const tensors = await readTensors(files[TENSORS]);
    const about = tensors.description, config = JSON.parse(new TextDecoder().decode(files[CONFIG]));
    const tapWidths = config.tap_widths, nOutputs = config.n_outputs, rank = about.rank;
    const take = (name, size) => {
      const tensor = tensors.arrays[name];
      if (tensor === undefined || tensor.length !== size) {
        throw new Skip2Error(`${TENSORS} has no ${name} of ${size} numbers, expected skip adapters on all taps: adapt by skip2-lora`);
      }
      return tensor;
    };
    const parts = {
      loraA: tapWidths.map((width, k) => take(`taps.${k}.lora_a`, width * rank)),
      loraB: tapWidths.map((_, k) => take(`taps.${k}.lora_b`, rank * nOutputs)),
      bias: "bias" in tensors.arrays ? take("bias", nOutputs) : new Float32Array(nOutputs),
    };
    return new Adapter(this.module, { tapWidths, nOutputs }, rank, parts, undefined, about.base_fingerprint);
  }
}

/** An instance of the core: its memory holds one set of rows and one adapter. */
class Core {
  constructor(module, shape, rank, most, kernels) {
    if (![undefined, "scalar", "simd128"].includes(kernels)) {
      throw new Skip2Error(`kernels is ${kernels}, expected simd128 or scalar`);
    }
    this.shape = shape;
    this.rank = rank;
    this.exports = new WebAssembly.Instance(module).exports;
    if (shape.tapWidths.length > 64) {
      throw new Skip2Error(`got ${shape.tapWidths.length} taps, expected 64 at most: prepare the model with fewer`);
    }
    new Uint32Array(this.exports.memory.buffer, this.exports.widths()).set(shape.tapWidths);
    check(this.exports.setup(shape.tapWidths.length, shape.nOutputs, rank, most, kernels === "scalar"));
    this.stride = this.exports.stride();
    this.places = [...shape.tapWidths, 0].map((_, tap) => this.exports.place(tap)); // the last: logits
  }

  reserve(bytes) {
    const at = this.exports.reserve(bytes);
    if (at === 0) check(3);
    return at;
  }

  floats(count) {
    return this.reserve(4 * count);
  }

  get f32() { // anew, as memory that has grown leaves older views empty
    return new Float32Array(this.exports.memory.buffer);
  }

  copy(at, count) {
    return this.f32.slice(at / 4, at / 4 + count);
  }

  /** Where `rows` lie, the one after the other. */
  put(rows, at = this.floats(rows.length * this.stride)) {
    const { tapWidths, nOutputs } = this.shape, f32 = this.f32;
    rows.forEach((row, s) => {
      const parts = [...row.taps, row.logits], widths = [...tapWidths, nOutputs];
      if (parts.length !== widths.length || parts.some((part, k) => part.length !== widths[k])) {
        throw new Skip2Error(`row ${s} has widths ${parts.map((part) => part.length)}, expected ${widths}: take all rows from one model`);
      }
      if (!parts.every((part) => part.every(Number.isFinite))) {
        throw new Skip2Error(`row ${s} holds NaN or an infinite number, expected finite ones: leave the sample out`);
      }
      parts.forEach((part, k) => f32.set(part, at / 4 + s * this.stride + this.places[k]));
    });
    return at;
  }

  labels(labels, n) {
    const { nOutputs } = this.shape;
    if (labels.length !== n) {
      throw new Skip2Error(`got ${n} rows and ${labels.length} labels, expected a label a row`);
    }
    const wrong = labels.findIndex((label) => !Number.isInteger(label) || label < 0 || label >= nOutputs);
    if (wrong >= 0) {
      throw new Skip2Error(`label ${wrong} is ${labels[wrong]}, expected a whole number from 0 to ${nOutputs - 1}`);
    }
    const at = this.reserve(4 * n);
    new Int32Array(this.exports.memory.buffer).set(labels, at / 4);
    return at;
  }

  /** Of the rows at `at`: what makes the columns of each tap have deviation 1, as Python's Scaling. */
  scaling(at, n) {
    const meanOf = this.reserve(8 * this.stride), varOf = this.reserve(8 * this.stride);
    check(this.exports.moments(n, at, meanOf, varOf));
    const meanAt = this.floats(this.stride), scaleAt = this.floats(this.stride), f64 = new Float64Array(this.exports.memory.buffer);
    const mean = f64.slice(meanOf / 8, meanOf / 8 + this.stride), variance = f64.slice(varOf / 8, varOf / 8 + this.stride);
    const scale = new Float64Array(this.stride).fill(1), end = this.places[this.places.length - 1];
    this.shape.tapWidths.forEach((width, tap) => {
      const first = this.places[tap], ours = mean.subarray(first, first + width), own = variance.subarray(first, first + width);
      const size = ours.reduce((sum, m) => sum + m * m, 0) / width, moves = own.reduce((sum, v) => sum + v, 0) / width;
      const floor = moves > 2 ** -32 * size ? 1e-3 * moves : size;
      scale.set(columnScale(ours, own.map((v) => v + floor)), first);
    });
    mean.fill(0, end);
    const f32 = this.f32;
    f32.set(mean, meanAt / 4);
    f32.set(scale, scaleAt / 4);
    return { meanAt, scaleAt, mean: Float32Array.from(mean), scale: Float32Array.from(scale) };
  }

  unpack() {
    const parts = { loraA: [], loraB: [], bias: this.copy(this.exports.bias(), this.shape.nOutputs) };
    this.shape.tapWidths.forEach((width, tap) => {
      const a = this.floats(width * this.rank), b = this.floats(this.rank * this.shape.nOutputs);
      this.exports.unpack(tap, a, b);
      parts.loraA.push(this.copy(a, width * this.rank));
      parts.loraB.push(this.copy(b, this.rank * this.shape.nOutputs));
    });
    return parts;
  }

  pack(parts) {
    this.shape.tapWidths.forEach((_, tap) => {
      const a = this.floats(parts.loraA[tap].length), b = this.floats(parts.loraB[tap].length);
      this.f32.set(parts.loraA[tap], a / 4);
      this.f32.set(parts.loraB[tap], b / 4);
      this.exports.pack(tap, a, b);
    });
    this.f32.set(parts.bias, this.exports.bias() / 4);
  }
}

/** `column_scale` of the Python package: the deviation counts as a share of the mean at least. */
function columnScale(mean, variance) {
  let scale;
  for (let bit = -8; bit < 0; bit++) {
    scale = variance.map((v, i) => {
      const floored = v + (2 ** bit * mean[i]) ** 2;
      return 1 / Math.sqrt(floored > 1.1754943508222875e-38 ? floored : 1);
    });
    if (mean.reduce((sum, m, i) => sum + (m * scale[i]) ** 2, 0) <= 4 ** (8 + 2)) break;
  }
  return scale;
}

/** Adapters on scaled taps as adapters on taps as they are. */
function folded(parts, core, { mean, scale }) {
  const { tapWidths, nOutputs } = core.shape, bias = Float64Array.from(parts.bias);
  const loraA = parts.loraA.map((a, tap) => {
    const rank = a.length / tapWidths[tap], first = core.places[tap];
    const own = a.map((value, i) => value * scale[first + Math.floor(i / rank)]);
    for (let r = 0; r < rank; r++) {
      let hidden = 0;
      for (let i = 0; i < tapWidths[tap]; i++) hidden += mean[first + i] * own[i * rank + r];
      for (let o = 0; o < nOutputs; o++) bias[o] -= hidden * parts.loraB[tap][r * nOutputs + o];
    }
    return own;
  });
  return { loraA, loraB: parts.loraB, bias: Float32Array.from(bias) };
}

const logSum = (values) => {
  const top = Math.max(...values);
  return top + Math.log(values.reduce((sum, value) => sum + Math.exp(value - top), 0));
};

/** What classes with samples get for classes without any to have 1 / (n + 1) of the probability at most. */
function aboveOthers(rows, logits, learned) {
  const known = new Set(learned), n = rows.length;
  const margins = rows.map((row, s) => logSum([...row.logits].filter((_, o) => !known.has(o))) - logSum(logits[s]));
  const share = (c) => margins.reduce((sum, m) => sum + 1 / (1 + Math.exp(c - m)), 0) / n;
  if (known.size === rows[0].logits.length || share(0) <= 1 / (n + 1)) return 0;
  let low = 0, high = Math.max(...margins) + Math.log(n);
  for (let i = 0; i < 50; i++) {
    const middle = (low + high) / 2;
    [low, high] = share(middle) <= 1 / (n + 1) ? [low, middle] : [middle, high];
  }
  return high;
}

function shapeOf(rows) {
  if (!rows.length) throw new Skip2Error("got no rows, expected some: add samples");
  return { tapWidths: rows[0].taps.map((tap) => tap.length), nOutputs: rows[0].logits.length };
}

/** What was learned. */
export class Adapter {
  #module; #kernels; #core; #in; #out;

  constructor(module, shape, rank, parts, kernels, fingerprint = null) {
    this.#module = module;
    this.#kernels = kernels;
    Object.assign(this, shape, { rank, fingerprint }, parts);
  }

  logits(rows) {
    const shape = { tapWidths: this.tapWidths, nOutputs: this.nOutputs };
    if (this.#core === undefined) {
      this.#core = new Core(this.#module, shape, this.rank, 1, this.#kernels);
      this.#core.pack(this);
      this.#in = this.#core.floats(AT_ONCE * this.#core.stride);
      this.#out = this.#core.floats(AT_ONCE * this.nOutputs);
    }
    const all = new Float32Array(rows.length * this.nOutputs);
    for (let at = 0; at < rows.length; at += AT_ONCE) {
      const some = rows.slice(at, at + AT_ONCE);
      check(this.#core.exports.logits(some.length, this.#core.put(some, this.#in), this.#out));
      all.set(this.#core.copy(this.#out, some.length * this.nOutputs), at * this.nOutputs);
    }
    return all;
  }

  predict(rows) {
    const logits = this.logits(rows);
    return rows.map((_, s) => {
      const own = logits.subarray(s * this.nOutputs, (s + 1) * this.nOutputs);
      return own.indexOf(Math.max(...own));
    });
  }

  async save(model) {
    const tapping = {};
    if (model.layers) {
      tapping.taps = model.places.map((place) => model.layers[place].layer);
      tapping.grid = model.grid;
      if (model.size) tapping.input_size = model.size;
      if (model.output && model.model_outputs?.length > 1) tapping.output = model.output;
      if (model.mask) tapping.mask = model.mask;
    }
    const base = { method: "skip2-lora" }, arrays = {};
    this.tapWidths.forEach((width, tap) => {
      arrays[`taps.${tap}.lora_a`] = [[width, this.rank], this.loraA[tap]];
      arrays[`taps.${tap}.lora_b`] = [[this.rank, this.nOutputs], this.loraB[tap]];
    });
    arrays.bias = [[this.nOutputs], this.bias];
    const identity = {
      kind: "adapter", version: 1, ...base, rank: this.rank, base_fingerprint: model.fingerprint, ...tapping,
    };
    const config = {
      peft_type: "SKIP2LORA", base_model_name_or_path: model.file ?? null, revision: model.fingerprint, ...base,
      r: this.rank, target_modules: this.tapWidths.map((_, tap) => `taps.${tap}`).sort(),
      tap_widths: this.tapWidths, n_outputs: this.nOutputs, ...tapping,
    };
    const text = JSON.stringify(sorted(config), null, 2) + "\n";
    return { [TENSORS]: await writeTensors(arrays, identity), [CONFIG]: new TextEncoder().encode(text) };
  }
}

