// How a sample looks: a picture, a sound that plays, or a curve of its numbers.
import { curve, node, thinned } from "./parts.js";
import { decoded, envelope, spectrogram } from "./sounds.js";
import { ask } from "./talk.js";
import { words } from "./words.js";

export async function drawSample(look, sample, onPlay) {
  const said = sample.values || sample.picture || sample.sound;
  const whole = said ? sample : await ask(`api/samples/${sample.id}`);
  if (whole.picture) {
    const url = URL.createObjectURL(await ask(`api/samples/${sample.id}/picture`));
    const image = node("img", { alt: words.sample(sample.id), src: url });
    image.addEventListener("load", () => URL.revokeObjectURL(url));
    look.replaceChildren(image);
  } else if (whole.sound) {
    const file = await ask(`api/samples/${sample.id}/sound`);
    drawSound(look, sample.id, decoded(await file.arrayBuffer()), onPlay);
  } else if (whole.values) look.replaceChildren(curve(thinned(whole.values, 256)));
}

// Below the spectrogram, low tones at its foot, the waveform; what is drawn is all that is kept.
function drawSound(look, id, { rate, waveform }, onPlay) {
  const about = words.sound(id, waveform.length / rate);
  const button = node("button", { type: "button", class: "play", "aria-pressed": "false",
    "aria-label": `${words.play}: ${about}`,
    onclick: (event) => { event.stopPropagation(); onPlay(button); } }, words.play);
  const canvas = spectrogram(waveform);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", about);
  look.classList.add("sound");
  look.replaceChildren(canvas, curve(envelope(waveform, 128)), button);
}
