/** A picture of any size as the networks of CIFAR-10 take it: its middle square, scaled to 32×32, in three planes. */

const SIDE = 32;

/**
 * @param {Blob} file
 * @returns {Promise<Uint8Array>} [3 · 32 · 32], red, green and blue
 * @throws {Error} it is no picture that this browser can read
 */
export async function readPicture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error("this file is no picture that the browser can read");
  }
  const canvas = halved(bitmap);
  bitmap.close();
  return planes(canvas.getContext("2d").getImageData(0, 0, SIDE, SIDE).data);
}

/** The middle square at 32×32, halved step by step: one step alone would skip pixels of large pictures. */
function halved(bitmap) {
  let side = Math.min(bitmap.width, bitmap.height);
  let [from, left, top] = [bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2];
  for (;;) {
    const next = Math.max(SIDE, Math.floor(side / 2));
    const canvas = Object.assign(document.createElement("canvas"), { width: next, height: next });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    Object.assign(context, { imageSmoothingEnabled: true, imageSmoothingQuality: "high", fillStyle: "#fff" });
    context.fillRect(0, 0, next, next); // where the picture is transparent
    context.drawImage(from, left, top, side, side, 0, 0, next, next);
    [from, left, top, side] = [canvas, 0, 0, next];
    if (next === SIDE) return canvas;
  }
}

/** @param {Uint8ClampedArray} pixels red, green, blue, alpha of each @returns {Uint8Array} */
export function planes(pixels) {
  const bytes = new Uint8Array(3 * SIDE * SIDE);
  for (let i = 0; i < SIDE * SIDE; i += 1) {
    for (let colour = 0; colour < 3; colour += 1) bytes[colour * SIDE * SIDE + i] = pixels[4 * i + colour];
  }
  return bytes;
}
