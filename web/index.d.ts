/** What a frozen model computed of one sample: the input of each tapped layer, and its outputs before softmax. */
export interface Row {
  taps: Float32Array[];
  logits: Float32Array;
}

/** An error with one line: what was got, what was expected, what to do. */
export class Skip2Error extends Error {}

export type Kernels = "simd128" | "scalar";

export interface FitOptions {
  /** Columns of each adapter. Default 4. */
  rank?: number;
  /** Passes over the rows. Default 50. */
  epochs?: number;
  /** Step size. Default 0.001. */
  learningRate?: number;
  /** Samples a step. Default 20, or all if fewer. */
  batchSize?: number;
  /** Rule of a step. Default adam. */
  optimizer?: "sgd" | "momentum" | "adam" | "adamw";
  /** Of the order of samples and the start of the adapter. Default 0. */
  seed?: number;
  /** Whether taps are scaled to deviation 1 while training; what is given works on taps as they are. Default true. */
  standardize?: boolean;
  /** Default simd128. scalar gives the same bits on every machine. */
  kernels?: Kernels;
  /** Called after each epoch, with the mean loss and the share of samples that were right as they were seen. */
  onEpoch?: (epoch: { epoch: number; loss: number; accuracy: number }) => void;
}

export interface SolveOptions {
  /** How strongly weights are pulled to 0. Default 0.001. */
  penalty?: number;
  kernels?: Kernels;
}

/** What `skip2lora prepare` wrote into a model, as far as it is needed here; `file` is its name, for people. */
export interface Model {
  fingerprint: string;
  file?: string | null;
  /** Names of the outputs that hold taps, in order, and of the one that holds the base logits. */
  outputs?: string[];
  logits?: string;
  layers?: { layer: string }[];
  places?: number[];
  [other: string]: unknown;
}

/** The two files of an adapter folder, by name. */
export type Files = Record<"adapter_model.safetensors" | "adapter_config.json", Uint8Array>;

/** The core, compiled once; each fit has a memory of its own, which goes with it. */
export class Skip2 {
  /**
   * Compiles skip2.wasm: its bytes, a response, an address, or by default the file beside this module.
   * @throws Skip2Error the address has no such file
   */
  static load(source?: BufferSource | Response | URL | string | WebAssembly.Module): Promise<Skip2>;

  /**
   * Trains skip adapters by steps (Algorithm 1 of the paper) with all rows cached.
   * @param labels whole numbers from 0, one a row
   * @throws Skip2Error rows of different widths or with NaN, labels out of range, a loss that is no number
   */
  fit(rows: Row[], labels: ArrayLike<number>, options?: FitOptions): Adapter;

  /**
   * Solves the convex fit of all rows to its optimum: no learning rate, no epochs. Classes without
   * samples keep their base logits. It needs memory for the square of the number of rows: 4 MB for 1,000.
   * @throws Skip2Error as `fit`, or one class alone
   */
  solve(rows: Row[], labels: ArrayLike<number>, options?: SolveOptions): Adapter;

  /**
   * Reads an adapter that Python or a browser saved.
   * @throws Skip2Error damaged files, or adapters other than skip adapters on all taps
   */
  open(files: Files): Promise<Adapter>;
}

/** Skip adapters: logits = base logits + sum over k of tap k . loraA[k] . loraB[k] + bias. */
export class Adapter {
  private constructor();
  readonly tapWidths: number[];
  readonly nOutputs: number;
  readonly rank: number;
  /** Row-major: (tapWidths[k], rank), (rank, nOutputs), (nOutputs). */
  readonly loraA: Float32Array[];
  readonly loraB: Float32Array[];
  readonly bias: Float32Array;
  /** Of the model that an opened adapter belongs to; null for one that was trained here. */
  readonly fingerprint: string | null;

  /** Adapted logits, row-major: (rows, nOutputs). */
  logits(rows: Row[]): Float32Array;
  /** The number of the largest of each row. */
  predict(rows: Row[]): number[];
  /**
   * The files of an adapter folder, which `skip2lora.AdaptedModel.load` reads.
   * @throws Skip2Error the page is not served by https or from localhost, so that SHA-256 is not there
   */
  save(model: Model): Promise<Files>;
}

/**
 * What `skip2lora prepare` says in the bytes of a model.
 * @throws Skip2Error it was not prepared
 */
export function describe(model: Uint8Array, file?: string | null): Model;

/** Rows from what onnxruntime-web gave for one or more samples: `await session.run(feeds)`. */
export function rowsOf(model: Model, results: Record<string, { data: unknown; dims: readonly number[] }>): Row[];
