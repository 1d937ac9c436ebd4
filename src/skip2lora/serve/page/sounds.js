// Recordings: what a stored one is, as a curve and as a spectrogram, and one at a time to be heard.
import { Refused, ask } from "./talk.js";
import { words } from "./words.js";

const HEAD = 44, FULL = 32768;  // bytes before the numbers of the service's .wav, and their range
const WINDOW = 256, ROWS = 64, COLUMNS = 192, RANGE_DB = 70;

export function decoded(buffer) {
  const view = new DataView(buffer), n = Math.max(0, Math.floor((buffer.byteLength - HEAD) / 2));
  const waveform = Float32Array.from({ length: n }, (_, at) => view.getInt16(HEAD + 2 * at, true) / FULL);
  return { rate: view.getUint32(24, true), waveform };
}

// The least and the greatest of each part, in turn: thinned to `most` parts no peak is lost.
export function envelope(waveform, most) {
  const parts = Math.max(1, Math.min(most, waveform.length)), ends = [];
  for (let part = 0; part < parts; part += 1) {
    let low = Infinity, high = -Infinity;
    const to = Math.floor(waveform.length * (part + 1) / parts);
    for (let at = Math.floor(waveform.length * part / parts); at < to; at += 1) {
      low = Math.min(low, waveform[at]); high = Math.max(high, waveform[at]);
    }
    if (low <= high) ends.push(low, high);
  }
  return ends;
}

// In place: `real` and `imaginary` become their discrete Fourier transform (Cooley and Tukey 1965).
export function transform(real, imaginary) {
  const n = real.length;
  for (let at = 1, to = 0; at < n; at += 1) {
    let bit = n >> 1;
    for (; to & bit; bit >>= 1) to ^= bit;
    to ^= bit;
    if (at < to) {
      [real[at], real[to]] = [real[to], real[at]];
      [imaginary[at], imaginary[to]] = [imaginary[to], imaginary[at]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let start = 0; start < n; start += size) {
      for (let at = 0; at < size / 2; at += 1) {
        const angle = -2 * Math.PI * at / size, one = start + at, other = one + size / 2;
        const c = Math.cos(angle), s = Math.sin(angle);
        const r = real[other] * c - imaginary[other] * s, i = real[other] * s + imaginary[other] * c;
        real[other] = real[one] - r; imaginary[other] = imaginary[one] - i;
        real[one] += r; imaginary[one] += i;
      }
    }
  }
}

// Power in dB, a column a moment of a Hann window, a row two bins, the lowest first.
export function decibels(waveform) {
  const n = Math.max(1, Math.min(COLUMNS, Math.ceil(waveform.length / (WINDOW / 2)))), columns = [];
  for (let column = 0; column < n; column += 1) {
    const room = Math.max(0, waveform.length - WINDOW);
    const start = n === 1 ? 0 : Math.round(room * column / (n - 1));
    const real = new Float64Array(WINDOW), imaginary = new Float64Array(WINDOW);
    for (let at = 0; at < WINDOW && start + at < waveform.length; at += 1) {
      real[at] = waveform[start + at] * (0.5 - 0.5 * Math.cos(2 * Math.PI * at / WINDOW));
    }
    transform(real, imaginary);
    const power = (bin) => real[bin] ** 2 + imaginary[bin] ** 2;
    columns.push(Array.from({ length: ROWS }, (_, row) =>
      10 * Math.log10(Math.max(power(2 * row), power(2 * row + 1), 1e-12))));
  }
  return columns;
}

// Black where it is loud, clear where it is still; the style sheet inverts it in the dark.
export function spectrogram(waveform) {
  const columns = decibels(waveform), canvas = document.createElement("canvas");
  canvas.width = columns.length;
  canvas.height = ROWS;
  const context = canvas.getContext("2d"), image = context.createImageData(columns.length, ROWS);
  const most = columns.reduce((top, column) => Math.max(top, ...column), -Infinity);
  columns.forEach((column, x) => column.forEach((level, row) => {
    const share = Math.max(0, 1 + (level - most) / RANGE_DB);
    image.data[4 * ((ROWS - 1 - row) * columns.length + x) + 3] = Math.round(255 * share);
  }));
  context.putImageData(image, 0, 0);
  return canvas;
}

// --- to be heard: one at a time, fetched when it is asked for and let go of at its end ---

let now = null;

function end() {
  if (!now) return;
  const { audio, button, url } = now;
  now = null;
  audio.pause();
  audio.remove();
  URL.revokeObjectURL(url);
  button.textContent = words.play;
  button.setAttribute("aria-pressed", "false");
}

export async function play(id, button) {
  const same = now?.button === button;
  end();
  if (same) return;
  const audio = document.createElement("audio"), url = URL.createObjectURL(await ask(`api/samples/${id}/sound`));
  end();  // another that was asked for meanwhile
  now = { audio, button, url };
  audio.src = url;
  audio.addEventListener("ended", () => { if (now?.audio === audio) end(); });
  button.after(audio);
  button.textContent = words.stop;
  button.setAttribute("aria-pressed", "true");
  try { await audio.play(); } catch {
    if (now?.audio !== audio) return;  // stopped before it began
    end();
    throw new Refused(415, words.unplayable);
  }
}
