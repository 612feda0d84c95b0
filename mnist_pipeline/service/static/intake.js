// Photos that are dropped, pasted or chosen, and how they are shown on the paper. Not here: sending them.

const $ = (id) => document.getElementById(id);
let over = 0; // elements that a dragged file is over: the next is entered before the last is left

/** Put photos on this pad, and show the one that is on it. */
export function takeIn(pad) {
  const take = (files) => {
    remark(files.length > 1 ? `Only the first of ${files.length} files is read.` : "");
    if (files.length) pad.show(files[0]);
  };
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    take([...$("file").files]);
    $("file").value = ""; // so that the same file can be chosen again
  });
  addEventListener("paste", (event) => take([...event.clipboardData.files]));
  addEventListener("dragenter", (event) => hold(over + Number(holdsFiles(event))));
  addEventListener("dragleave", (event) => hold(over - Number(holdsFiles(event))));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    hold(0);
    take([...event.dataTransfer.files]);
    if (!event.dataTransfer.files.length) remark("That was no file. Save the picture first, then drop the file.");
  });
  let shown = null;
  pad.addEventListener("change", () => {
    if (pad.photo !== shown) preview((shown = pad.photo));
  });
}

function holdsFiles(event) {
  return event.dataTransfer.types.includes("Files");
}

function hold(elements) {
  over = elements;
  $("paper").classList.toggle("drop", over > 0);
}

/** The photo over the canvas; where this browser cannot show it (HEIC, TIFF), its name. */
function preview(photo) {
  const image = $("preview");
  if (image.src) URL.revokeObjectURL(image.src);
  image.removeAttribute("src");
  image.hidden = !photo;
  $("nameplate").hidden = true;
  if (!photo) return;
  image.alt = `The photo ${photo.name}`;
  image.onerror = () => {
    image.hidden = true;
    $("nameplate").textContent = `${photo.name} (no preview)`;
    $("nameplate").hidden = false;
  };
  image.src = URL.createObjectURL(photo);
}

function remark(text) {
  $("remark").textContent = text;
  $("remark").hidden = !text;
}
