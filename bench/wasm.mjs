// Times of WebAssembly: microseconds a batch of 20 of Skip2-LoRA (rank 4, SGD) on cached rows, and
// milliseconds of the exact solver on 100, for both kernel tables. What is compared runs in turn, each
// time is the shortest of many.
//
//     make web && node bench/wasm.mjs

const NETWORKS = { "256-96-96-3": [[256, 96, 96], 3], "561-96-96-6": [[561, 96, 96], 6] };
const SAMPLES = 100, BATCHES = 5, EPOCHS = 20, ROUNDS = 40;

function task(widths, nOutputs) {
  let state = 1;
  const random = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648 - 0.5;
  const numbers = (width) => Float32Array.from({ length: width }, random);
  const rows = Array.from({ length: SAMPLES }, () => ({ taps: widths.map(numbers), logits: numbers(nOutputs) }));
  return [rows, rows.map(() => Math.floor((random() + 0.5) * nOutputs))];
}

/** The shortest time of EPOCHS epochs without what comes before and after them, as microseconds a batch. */
function batch(core, rows, labels, kernels) {
  let best = Infinity, began;
  const onEpoch = ({ epoch }) => {
    if (epoch % EPOCHS !== 0) return;
    const now = performance.now();
    if (began !== undefined) best = Math.min(best, now - began);
    began = now;
  };
  core.fit(rows, labels, { optimizer: "sgd", learningRate: 0.001, standardize: false, epochs: 10 * EPOCHS + 1, kernels, onEpoch });
  return (best * 1000) / EPOCHS / BATCHES;
}

function exact(core, rows, labels, kernels) {
  const began = performance.now();
  core.solve(rows, labels, { kernels });
  return performance.now() - began;
}

/** For each network and table: [microseconds a batch, milliseconds of the exact solver]. */
export function measure(core) {
  const times = {};
  for (const [network, [widths, nOutputs]] of Object.entries(NETWORKS)) {
    const [rows, labels] = task(widths, nOutputs);
    for (let round = 0; round < ROUNDS; round++) {
      for (const kernels of ["scalar", "simd128"]) {
        const best = (times[`${network} ${kernels}`] ??= [Infinity, Infinity]);
        best[0] = Math.min(best[0], batch(core, rows, labels, kernels));
        best[1] = Math.min(best[1], exact(core, rows, labels, kernels));
      }
    }
  }
  return times;
}

if (globalThis.process?.argv[1] === new URL(import.meta.url).pathname) {
  const { Skip2 } = await import("../web/index.js");
  for (const [what, [us, ms]] of Object.entries(measure(await Skip2.load()))) {
    console.log(`${what}: ${us.toFixed(2)} us a batch, exact in ${ms.toFixed(2)} ms`);
  }
}
