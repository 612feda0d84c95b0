// How numbers and messages are said to a person. Not here: where they are shown.

const SURE = [[0.99, "As good as certain"], [0.9, "Sure"], [0.7, "Fairly sure"], [0.5, "Not sure"], [0, "A guess"]];

/** A confidence from 0 to 1 in words. */
export function inWords(confidence) {
  return SURE.find(([least]) => confidence >= least)[1];
}

/** A share from 0 to 1 as "97 %"; one digit more near the ends, and never 0 % or 100 % for what is neither. */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  if (share < 1 && share > 0.9995) return "> 99.9 %";
  const nearTheEnd = share > 0 && share < 1 && (share < 0.01 || share > 0.99);
  return `${(share * 100).toFixed(nearTheEnd ? 1 : 0)} %`;
}

/** What else it may be, of an answer's set: "4 or 9?"; "" where there is no doubt. */
export function either(set) {
  return (set ?? []).length > 1 ? `${set.slice(0, -1).join(", ")} or ${set.at(-1)}?` : "";
}

/** "a 7", "an 8", "an owl". */
export function withArticle(name) {
  return `${/^(8|11$|18$|[aeio])/i.test(name) ? "an" : "a"} ${name}`;
}

/** A message of the service as a sentence: capital first, a full stop last. */
export function sentence(message) {
  const text = message.trim();
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}

/** Milliseconds, with no more digits than mean something. */
export function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}
