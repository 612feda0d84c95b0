// Photos that the service would not take as they are. Not here: where photos come from, how they are shown.

export const MOST_BYTES = 10_000_000; // what the service takes; past it the connection may break before it says so
const LONGEST_SIDE = 1600;

/** The photo drawn anew as a JPEG that any service reads: smaller, upright, on white. null if this browser cannot. */
export async function redrawn(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return null;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}
