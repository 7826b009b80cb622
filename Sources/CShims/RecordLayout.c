#include "RecordLayout.h"
#include <string.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WORD(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#else
#define WORD(a, b, c, d) ((uint32_t)(d) | (uint32_t)(c) << 8 | (uint32_t)(b) << 16 | (uint32_t)(a) << 24)
#endif

// Reading behind the record is deliberate and bounded (TIEOUT_OVERREAD_BYTES), so the address sanitiser must not object.
#define OVERREADS __attribute__((no_sanitize("address")))
#define INLINED static inline __attribute__((always_inline)) OVERREADS

// Plain C: eight bytes at a time, the high bits of the bytes that match gathered by a multiplication.

INLINED uint64_t word_at(const uint8_t *from) {
  uint64_t word;
  memcpy(&word, from, 8);
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  return word;
}

#define LOWS 0x0101010101010101u
#define HIGHS 0x8080808080808080u

INLINED uint32_t gathered(uint64_t highs) { return (uint32_t)(((highs >> 7) * 0x0102040810204080u) >> 56); }

/// The high bit of every byte that is zero.
INLINED uint64_t zeros(uint64_t word) { return ~((((word & ~HIGHS) + ~HIGHS) | word) | ~HIGHS); }

INLINED uint32_t equal32_plain(const uint8_t *a, const uint8_t *b) {
  uint32_t bits = 0;
  for (int at = 0; at < 4; at++) { bits |= gathered(zeros(word_at(a + at * 8) ^ word_at(b + at * 8))) << (at * 8); }
  return bits;
}

INLINED uint32_t stops32_plain(const uint8_t *from) {
  uint32_t bits = 0;
  for (int at = 0; at < 4; at++) {
    uint64_t word = word_at(from + at * 8);
    uint64_t controls = ~((word & ~HIGHS) + LOWS * 0x60) & HIGHS;
    uint64_t stops = zeros(word ^ (LOWS * '"')) | zeros(word ^ (LOWS * '\\')) | controls | (word & HIGHS);
    bits |= gathered(stops) << (at * 8);
  }
  return bits;
}

INLINED uint32_t digits32_plain(const uint8_t *from) {
  uint32_t bits = 0;
  for (int at = 0; at < 4; at++) {
    uint64_t word = word_at(from + at * 8) ^ (LOWS * '0');
    uint64_t others = ((word & ~HIGHS) + LOWS * (0x80 - 10)) | word;
    bits |= gathered(~others & HIGHS) << (at * 8);
  }
  return bits;
}

/// Without instructions that count and find bits fast, an index costs more than the chain it saves.
INLINED void no_index(tieout_place *place) {
  place->mark_count = 0;
  place->is_odd = 0;
}

#define WALK walk_plain
#define INDEX no_index
#define WALK_TARGET OVERREADS
#define EQUAL32 equal32_plain
#define STOPS32 stops32_plain
#define DIGITS32 digits32_plain
#include "LayoutWalk.h"
#undef WALK
#undef WALK_TARGET
#undef EQUAL32
#undef STOPS32
#undef DIGITS32

#if defined(__SSE2__)
#include <immintrin.h>

INLINED uint32_t equal16_sse2(const uint8_t *a, const uint8_t *b) {
  __m128i x = _mm_loadu_si128((const __m128i *)a);
  return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_loadu_si128((const __m128i *)b)));
}

INLINED uint32_t stops16_sse2(const uint8_t *from) {
  __m128i x = _mm_loadu_si128((const __m128i *)from);
  // Signed: what is beyond ASCII is less than a space too.
  __m128i stops = _mm_or_si128(
    _mm_cmplt_epi8(x, _mm_set1_epi8(0x20)),
    _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')), _mm_cmpeq_epi8(x, _mm_set1_epi8('\\'))));
  return (uint32_t)_mm_movemask_epi8(stops);
}

INLINED uint32_t digits16_sse2(const uint8_t *from) {
  __m128i x = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)from), _mm_set1_epi8('0'));
  return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(9)), x));
}

INLINED uint32_t equal32_sse2(const uint8_t *a, const uint8_t *b) {
  return equal16_sse2(a, b) | equal16_sse2(a + 16, b + 16) << 16;
}
INLINED uint32_t stops32_sse2(const uint8_t *from) { return stops16_sse2(from) | stops16_sse2(from + 16) << 16; }
INLINED uint32_t digits32_sse2(const uint8_t *from) { return digits16_sse2(from) | digits16_sse2(from + 16) << 16; }

#define WALK walk_baseline
#define WALK_TARGET OVERREADS
#define EQUAL32 equal32_sse2
#define STOPS32 stops32_sse2
#define DIGITS32 digits32_sse2
#include "LayoutWalk.h"
#undef WALK
#undef WALK_TARGET
#undef EQUAL32
#undef STOPS32
#undef DIGITS32

#undef INDEX

#define AVX2 __attribute__((target("avx2,bmi,popcnt")))

INLINED AVX2 uint32_t equal32_avx2(const uint8_t *a, const uint8_t *b) {
  __m256i x = _mm256_loadu_si256((const __m256i *)a);
  return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(x, _mm256_loadu_si256((const __m256i *)b)));
}

INLINED AVX2 uint32_t stops32_avx2(const uint8_t *from) {
  __m256i x = _mm256_loadu_si256((const __m256i *)from);
  __m256i stops = _mm256_or_si256(
    _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), x),
    _mm256_or_si256(_mm256_cmpeq_epi8(x, _mm256_set1_epi8('"')), _mm256_cmpeq_epi8(x, _mm256_set1_epi8('\\'))));
  return (uint32_t)_mm256_movemask_epi8(stops);
}

INLINED AVX2 uint32_t digits32_avx2(const uint8_t *from) {
  __m256i x = _mm256_sub_epi8(_mm256_loadu_si256((const __m256i *)from), _mm256_set1_epi8('0'));
  return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(x, _mm256_set1_epi8(9)), x));
}

/// Notes where the quotes stand. An escaped quote is noted too: then literals are not found where they are looked for,
/// and the whole scanner takes the record.
INLINED AVX2 void index_avx2(tieout_place *place) {
  size_t total = (size_t)(place->end - place->start);
  place->mark_count = 0;
  place->is_odd = 0;
  if (total > TIEOUT_INDEXED_BYTES) { return; }
  uint16_t *marks = place->marks;
  __m256i odd = _mm256_setzero_si256();
  for (size_t block = 0; block < total; block += 32) {
    __m256i x = _mm256_loadu_si256((const __m256i *)(place->start + block));
    uint32_t quotes = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(x, _mm256_set1_epi8('"')));
    __m256i others =
      _mm256_or_si256(_mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), x), _mm256_cmpeq_epi8(x, _mm256_set1_epi8('\\')));
    if (LIKELY(total - block >= 32)) {
      odd = _mm256_or_si256(odd, others);
    } else {
      // What is behind the record does not count.
      uint32_t mask = (1u << (total - block)) - 1;
      quotes &= mask;
      place->is_odd = (uint32_t)_mm256_movemask_epi8(others) & mask;
    }
    // More than eight quotes in 32 bytes are rare, and a count known beforehand needs no branch.
    uint32_t count = (uint32_t)_mm_popcnt_u32(quotes);
    for (int at = 0; at < 8; at++) {
      marks[at] = (uint16_t)(block + _tzcnt_u32(quotes));
      quotes = _blsr_u32(quotes);
    }
    if (UNLIKELY(count > 8)) {
      for (uint32_t at = 8; at < count; at++) {
        marks[at] = (uint16_t)(block + _tzcnt_u32(quotes));
        quotes = _blsr_u32(quotes);
      }
    }
    marks += count;
  }
  place->mark_count = (uint32_t)(marks - place->marks);
  place->is_odd |= (uint32_t)_mm256_movemask_epi8(odd);
}

#define WALK walk_avx2
#define INDEX index_avx2
#define WALK_TARGET OVERREADS AVX2
#define EQUAL32 equal32_avx2
#define STOPS32 stops32_avx2
#define DIGITS32 digits32_avx2
#include "LayoutWalk.h"
#undef WALK
#undef INDEX
#undef WALK_TARGET

#define AVX512 __attribute__((target("avx2,bmi,popcnt,avx512f,avx512bw,avx512vl,avx512vbmi2")))

/// As `index_avx2`, 64 bytes at a time; the offsets of all quotes among them are one instruction.
INLINED AVX512 void index_avx512(tieout_place *place) {
  size_t total = (size_t)(place->end - place->start);
  place->mark_count = 0;
  place->is_odd = 0;
  if (total > TIEOUT_INDEXED_BYTES) { return; }
  const __m512i offsets = _mm512_set_epi64(
    0x3f3e3d3c3b3a3938, 0x3736353433323130, 0x2f2e2d2c2b2a2928, 0x2726252423222120, 0x1f1e1d1c1b1a1918,
    0x1716151413121110, 0x0f0e0d0c0b0a0908, 0x0706050403020100);
  uint16_t *marks = place->marks;
  __mmask64 odd = 0;
  for (size_t block = 0; block < total; block += 64) {
    __mmask64 inside = total - block < 64 ? ((__mmask64)1 << (total - block)) - 1 : ~(__mmask64)0;
    __m512i x = _mm512_maskz_loadu_epi8(inside, place->start + block);
    __mmask64 quotes = _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8('"'));
    odd |= _mm512_mask_cmplt_epi8_mask(inside, x, _mm512_set1_epi8(0x20));
    odd |= _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8('\\'));
    __m512i found = _mm512_maskz_compress_epi8(quotes, offsets);
    __m512i base = _mm512_set1_epi16((short)block);
    uint32_t count = (uint32_t)__builtin_popcountll(quotes);
    _mm512_storeu_si512(marks, _mm512_add_epi16(base, _mm512_cvtepu8_epi16(_mm512_castsi512_si256(found))));
    if (UNLIKELY(count > 32)) {
      _mm512_storeu_si512(
        marks + 32, _mm512_add_epi16(base, _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(found, 1))));
    }
    marks += count;
  }
  place->mark_count = (uint32_t)(marks - place->marks);
  place->is_odd = odd != 0;
}

#define WALK walk_avx512
#define INDEX index_avx512
#define WALK_TARGET OVERREADS AVX512
#include "LayoutWalk.h"

tieout_walk tieout_baseline_walk(void) { return walk_baseline; }
tieout_walk tieout_avx2_walk(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") ? walk_avx2 : walk_baseline;
}
tieout_walk tieout_best_walk(void) {
  if (__builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    return walk_avx512;
  }
  return tieout_avx2_walk();
}

#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>

/// A bit for each byte of two vectors whose bytes are all ones or all zeros.
INLINED uint32_t bits32_neon(uint8x16_t low, uint8x16_t high) {
  const uint8x16_t weights = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  uint8x16_t sums = vpaddq_u8(vandq_u8(low, weights), vandq_u8(high, weights));
  sums = vpaddq_u8(sums, sums);
  sums = vpaddq_u8(sums, sums);
  return vgetq_lane_u32(vreinterpretq_u32_u8(sums), 0);
}

INLINED uint32_t equal32_neon(const uint8_t *a, const uint8_t *b) {
  return bits32_neon(vceqq_u8(vld1q_u8(a), vld1q_u8(b)), vceqq_u8(vld1q_u8(a + 16), vld1q_u8(b + 16)));
}

INLINED uint8x16_t stops16_neon(uint8x16_t x) {
  return vorrq_u8(
    vcltq_s8(vreinterpretq_s8_u8(x), vdupq_n_s8(0x20)),
    vorrq_u8(vceqq_u8(x, vdupq_n_u8('"')), vceqq_u8(x, vdupq_n_u8('\\'))));
}
INLINED uint32_t stops32_neon(const uint8_t *from) {
  return bits32_neon(stops16_neon(vld1q_u8(from)), stops16_neon(vld1q_u8(from + 16)));
}

INLINED uint8x16_t digits16_neon(uint8x16_t x) { return vcleq_u8(vsubq_u8(x, vdupq_n_u8('0')), vdupq_n_u8(9)); }
INLINED uint32_t digits32_neon(const uint8_t *from) {
  return bits32_neon(digits16_neon(vld1q_u8(from)), digits16_neon(vld1q_u8(from + 16)));
}

#define WALK walk_baseline
#define WALK_TARGET OVERREADS
#define EQUAL32 equal32_neon
#define STOPS32 stops32_neon
#define DIGITS32 digits32_neon
#include "LayoutWalk.h"

tieout_walk tieout_baseline_walk(void) { return walk_baseline; }
tieout_walk tieout_avx2_walk(void) { return walk_baseline; }
tieout_walk tieout_best_walk(void) { return walk_baseline; }

#else

tieout_walk tieout_baseline_walk(void) { return walk_plain; }
tieout_walk tieout_avx2_walk(void) { return walk_plain; }
tieout_walk tieout_best_walk(void) { return walk_plain; }

#endif

tieout_walk tieout_portable_walk(void) { return walk_plain; }
