#pragma once
// The learned layout of a source's JSON records: which bytes stand between the values. `JSONScanner` learns it from
// records that it has validated and walks later ones along it.
//
// A layout is a prefix tree of steps in one array. The first child of a step is the step behind it; further children
// hang on that one as siblings. A record whose literals are those of one path through the tree, and whose values are
// well-formed, is as well-formed as the record that the path was learned from: the same keys in the same order, the
// same nesting, and nothing else but the values differs.
#include <stdint.h>

/// A captured value: where it stands in the record (inside the quotes for strings).
typedef struct {
  const uint8_t *base;
  uint32_t count;
  uint32_t form;
} tieout_value;

enum {
  TIEOUT_FORM_ABSENT = 0,
  TIEOUT_FORM_STRING = 1,
  TIEOUT_FORM_ESCAPED = 2,
  TIEOUT_FORM_NUMBER = 3,
  TIEOUT_FORM_BOOL = 4,
  TIEOUT_FORM_NULL = 5,
  TIEOUT_FORM_COMPOSITE = 6,
};

enum {
  /// A value that is mapped: a string, number or literal; an object or array is another layout.
  TIEOUT_STEP_VALUE = 0,
  /// A value that nobody reads; also an object or array, then the caller skips it.
  TIEOUT_STEP_SPARE = 1,
  /// No value follows: the literal is longer than one step holds.
  TIEOUT_STEP_PART = 2,
  /// The literal ends with the bracket of an object or array that is captured as such.
  TIEOUT_STEP_COMPOSITE = 3,
  /// The literal ends the record.
  TIEOUT_STEP_END = 4,
};

#define TIEOUT_LITERAL_BYTES 32

/// One step of a layout: one cache line.
typedef struct {
  uint8_t literal[TIEOUT_LITERAL_BYTES];
  /// A bit for each byte of the literal.
  uint32_t mask;
  /// Where the value goes, in bytes from the first slot; unmapped values go to a slot that nobody reads.
  uint32_t slot_bytes;
  /// Index of another step with the same parent, 0 where there is none.
  uint32_t sibling;
  uint32_t depth;
  /// The byte that opens a string; more than a byte can be where no value follows.
  uint16_t opening;
  uint8_t count;
  uint8_t kind;
  /// Quotes in the literal.
  uint8_t quotes;
  uint8_t spare[11];
} tieout_step;

_Static_assert(sizeof(tieout_step) == 64, "a step is one cache line");

/// Longer records are walked without an index of their quotes.
#define TIEOUT_INDEXED_BYTES 4096

/// Where a walk stands: in front of the literal of `step`, or, where it asks for help, on the value behind it.
typedef struct {
  const uint8_t *start;
  const uint8_t *cursor;
  const uint8_t *end;
  uint32_t step;
  /// How many quotes were found in the record; 0: it has no index. And the one that comes next.
  uint32_t mark_count;
  uint32_t mark;
  /// Whether there is more than plain ASCII in the record: then its strings are looked at one by one.
  uint32_t is_odd;
  /// Offsets of the quotes, with room for what is written at a time.
  uint16_t marks[TIEOUT_INDEXED_BYTES + 64];
} tieout_place;

enum {
  /// The record ended where the layout ends; all its values are captured.
  TIEOUT_WALK_DONE = 0,
  /// `cursor` is on a value that takes the whole scanner: escapes, text beyond ASCII, exponents, objects, arrays.
  TIEOUT_WALK_HELP = 1,
  /// No learned layout is the record's, or it is no JSON: the whole scanner decides.
  TIEOUT_WALK_MISS = 2,
};

/// A walk reads at most this many bytes behind the end of the record, and never believes them. Two blocks of 32 bytes,
/// the quote between them, and one step more for round numbers.
#define TIEOUT_OVERREAD_BYTES 96

/// The slot of a step.
static inline tieout_value *tieout_slot(tieout_value *values, const tieout_step *step) {
  return (tieout_value *)((uint8_t *)values + step->slot_bytes);
}

/// Walks on from `place` until the record ends, needs help, or leaves the layout. `values` has a slot more than are
/// mapped. The caller has made sure that `TIEOUT_OVERREAD_BYTES` behind `end` can be read.
typedef uint32_t (*tieout_walk)(tieout_step *steps, tieout_value *values, tieout_place *place);

/// The walk for this processor: AVX-512 (VBMI2) or AVX2 where it has them, else what every processor of its family has
/// (SSE2, NEON), else plain C. All do the same.
tieout_walk tieout_best_walk(void);

/// The others, for tests on processors that would never take them.
tieout_walk tieout_portable_walk(void);
tieout_walk tieout_baseline_walk(void);
tieout_walk tieout_avx2_walk(void);
