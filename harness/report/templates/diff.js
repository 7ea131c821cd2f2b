
// --- Words of one text that another lacks, by their longest common subsequence.

const MOST_WORDS = 600;

function words(text) {
  return text.match(/\s+|[\p{L}\p{N}]+|[^\s\p{L}\p{N}]/gu) || [];
}

// For each piece of `own`: whether it stands in `other` too, in the same order. Null where the
// texts are too long to be compared word by word.
function common(own, other) {
  if (own.length > MOST_WORDS || other.length > MOST_WORDS) return null;
  const width = other.length + 1;
  const table = new Uint16Array((own.length + 1) * width);
  for (let i = own.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      table[i * width + j] = own[i] === other[j]
        ? table[(i + 1) * width + j + 1] + 1
        : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  const kept = new Array(own.length).fill(false);
  for (let i = 0, j = 0; i < own.length && j < other.length;) {
    if (own[i] === other[j]) { kept[i] = true; i++; j++; }
    else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i++;
    else j++;
  }
  return kept;
}

// The text with what `other` lacks in <mark>; as it is where nothing can be told.
function marked(text, other) {
  const own = words(text);
  const kept = other === null ? null : common(own, words(other));
  if (!kept) return [text];
  const parts = [];
  for (let start = 0, end; start < own.length; start = end) {
    for (end = start + 1; end < own.length && kept[end] === kept[start];) end++;
    const part = own.slice(start, end).join("");
    parts.push(kept[start] || !part.trim() ? part : make("mark", "", part));
  }
  return parts;
}

// The reference that shares most of the text's words; null where there is none.
function nearest(text, references) {
  if (references.length < 2) return references.length ? references[0] : null;
  const own = words(text);
  const shared = (other) => (common(own, words(other)) || []).filter(Boolean).length;
  return references.reduce((best, other) => (shared(other) > shared(best) ? other : best));
}
