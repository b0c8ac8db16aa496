/** What networks are sent, as small pictures. */

/**
 * Draw bytes as they are sent: gray [28 · 28], or planes of red, green and blue [3 · 32 · 32].
 *
 * @param {HTMLCanvasElement} canvas its size becomes the image's
 * @param {Uint8Array} bytes
 * @returns {HTMLCanvasElement}
 */
export function drawBytes(canvas, bytes) {
  const planes = bytes.length % 3 === 0 ? 3 : 1;
  const side = Math.round(Math.sqrt(bytes.length / planes));
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  for (let i = 0; i < side * side; i += 1) {
    for (let colour = 0; colour < 3; colour += 1) {
      pixels.data[4 * i + colour] = bytes[i + (planes === 3 ? colour * side * side : 0)];
    }
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/**
 * Draw pen points in their order, from light to dark.
 *
 * @param {HTMLCanvasElement} canvas @param {import("./mnist.js").Point[]} points of 28×28 pixels
 */
export function drawPoints(canvas, points) {
  const [context, cell] = [canvas.getContext("2d"), canvas.width / 28];
  context.clearRect(0, 0, canvas.width, canvas.height);
  points.forEach(([x, y], i) => {
    context.fillStyle = `hsl(262 90% ${92 - (36 * i) / Math.max(1, points.length - 1)}%)`;
    context.beginPath();
    context.arc((x + 0.5) * cell, (y + 0.5) * cell, 0.42 * cell, 0, 2 * Math.PI);
    context.fill();
  });
}

/** What was added to one image to make another, gray where nothing was. @param {Uint8Array} one @param {Uint8Array} other */
export function difference(one, other) {
  return one.map((value, i) => Math.max(0, Math.min(255, 128 + 1.6 * (other[i] - value))));
}
