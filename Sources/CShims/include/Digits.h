#pragma once
// Digits eight at a time, without a loop.
#include <stdint.h>
#include <string.h>
#include "RecordLayout.h"

#define TIEOUT_NO_AMOUNT INT64_MIN

static inline uint64_t tieout_word_at(const uint8_t *from) {
  uint64_t word;
  memcpy(&word, from, 8);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  return word;
}

/// The number that eight digits make, the first of them in the lowest byte, each 0 to 9.
static inline uint64_t tieout_number(uint64_t digits) {
  uint64_t pairs = digits * 10 + (digits >> 8);
  uint64_t low = (pairs & 0x000000ff000000ff) * 0x000f424000000064;
  uint64_t high = ((pairs >> 16) & 0x000000ff000000ff) * 0x0000271000000001;
  return (low + high) >> 32;
}

/// High bits where a byte is more than 9.
static inline uint64_t tieout_no_digits(uint64_t digits) {
  return ((digits + 0x7676767676767676) | digits) & 0x8080808080808080;
}

/// An amount of up to eight digits, a point and two more, with or without a minus, in hundredths; `TIEOUT_NO_AMOUNT`
/// for all else. Looks at up to eight bytes in front of the text, which the caller has made sure of.
static inline int64_t tieout_hundredths(const uint8_t *text, uint32_t count) {
  if (count - 4 > 8) { return TIEOUT_NO_AMOUNT; }
  uint32_t is_negative = text[0] == '-';
  uint32_t whole = count - 3 - is_negative;
  if (whole - 1 > 7) { return TIEOUT_NO_AMOUNT; }
  const uint8_t *end = text + count;
  // The three bytes behind the whole, in the upper bytes; the point becomes a zero as the digits do.
  uint64_t tail = (tieout_word_at(end - 8) >> 40) ^ 0x30302e;
  uint64_t digits = tieout_word_at(end - 11) ^ 0x3030303030303030;
  uint64_t shift = (8 - whole) * 8;
  digits = digits >> shift << shift;
  if (__builtin_expect((tieout_no_digits(digits) | tieout_no_digits(tail) | (tail & 0xff)) != 0, 0)) {
    return TIEOUT_NO_AMOUNT;
  }
  int64_t amount = (int64_t)(tieout_number(digits) * 100 + (tail >> 8 & 0xff) * 10 + (tail >> 16));
  return is_negative ? -amount : amount;
}

/// Amounts in hundredths of the fields whose bits are set in `wanted`: field i is in slot `slots[i]` of `values` and
/// goes to `amounts[i]`. Returns the bits of those that are such amounts. `start` is where the record starts.
static inline uint32_t tieout_all_hundredths(
  const tieout_value *values, const uint32_t *slots, uint32_t wanted, const uint8_t *start, int64_t *amounts) {
  uint32_t done = 0;
  while (wanted != 0) {
    uint32_t field = (uint32_t)__builtin_ctz(wanted);
    const tieout_value *value = values + slots[field];
    wanted &= wanted - 1;
    // An absent value has no place, which is in front of every record.
    if ((intptr_t)value->base - (intptr_t)start < 8) { continue; }
    int64_t amount = tieout_hundredths(value->base, value->count);
    amounts[field] = amount;
    done |= (uint32_t)(amount != TIEOUT_NO_AMOUNT) << field;
  }
  return done;
}
