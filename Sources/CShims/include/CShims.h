#pragma once
// Header-only C for what Swift cannot say: cache hints and unaligned vector compares.
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#include "Digits.h"
#include "RecordLayout.h"
#include "SystemClock.h"

/// Asks the processor to bring the line at `address` close, for a read or a write soon.
static inline void tieout_prefetch(const void *address) { __builtin_prefetch(address, 1, 3); }

/// The same for a read alone: lines that another processor wrote stay shared.
static inline void tieout_prefetch_read(const void *address) { __builtin_prefetch(address, 0, 3); }

/// Eight entries of an index at once: the low eight bits say which of them begin with `tag` (their upper half) and are
/// not zero, the eight above which are zero. None has a lower half of zero and is not zero itself.
static inline uint32_t tieout_index_line(const uint64_t *entries, uint32_t tag) {
#if defined(__SSE2__)
  const __m128 *from = (const __m128 *)entries;
  __m128i high0 = _mm_castps_si128(_mm_shuffle_ps(from[0], from[1], 0xdd));
  __m128i high1 = _mm_castps_si128(_mm_shuffle_ps(from[2], from[3], 0xdd));
  __m128i low0 = _mm_castps_si128(_mm_shuffle_ps(from[0], from[1], 0x88));
  __m128i low1 = _mm_castps_si128(_mm_shuffle_ps(from[2], from[3], 0x88));
  __m128i wanted = _mm_set1_epi32((int)tag);
  __m128i alike = _mm_packs_epi32(_mm_cmpeq_epi32(high0, wanted), _mm_cmpeq_epi32(high1, wanted));
  __m128i free = _mm_packs_epi32(
    _mm_cmpeq_epi32(low0, _mm_setzero_si128()), _mm_cmpeq_epi32(low1, _mm_setzero_si128()));
  return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_andnot_si128(free, alike), free));
#else
  uint32_t bits = 0;
  for (int at = 0; at < 8; at++) {
    uint32_t is_free = entries[at] == 0;
    bits |= (uint32_t)((entries[at] >> 32 == tag) & !is_free) << at | is_free << (at + 8);
  }
  return bits;
#endif
}

/// How many bits of a mask are set. The baseline of x86-64 has no instruction for it, and compilers make a dozen.
static inline int64_t tieout_bit_count(uint16_t mask) {
#define TIEOUT_BITS2(n) n, n + 1, n + 1, n + 2
#define TIEOUT_BITS4(n) TIEOUT_BITS2(n), TIEOUT_BITS2(n + 1), TIEOUT_BITS2(n + 1), TIEOUT_BITS2(n + 2)
#define TIEOUT_BITS6(n) TIEOUT_BITS4(n), TIEOUT_BITS4(n + 1), TIEOUT_BITS4(n + 1), TIEOUT_BITS4(n + 2)
  static const uint8_t bits[256] = {TIEOUT_BITS6(0), TIEOUT_BITS6(1), TIEOUT_BITS6(1), TIEOUT_BITS6(2)};
#undef TIEOUT_BITS2
#undef TIEOUT_BITS4
#undef TIEOUT_BITS6
  return bits[mask & 255] + bits[mask >> 8];
}

/// Asks the kernel to back a large allocation with huge pages; a refusal is harmless.
static inline void tieout_advise_huge(void *address, uint64_t bytes) {
  uintptr_t start = ((uintptr_t)address + 4095) & ~(uintptr_t)4095;
  uintptr_t end = ((uintptr_t)address + bytes) & ~(uintptr_t)4095;
  if (end > start) { madvise((void *)start, end - start, MADV_HUGEPAGE); }
}

/// Writes to every page of zeroes once. A page that is read first is the kernel's page of zeroes: writing to it then
/// costs a second fault, and every processor a flush.
static inline void tieout_touch(void *address, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += 4096) { ((volatile char *)address)[at] = 0; }
}

/// Reserves address space, aligned to huge pages; memory comes with the first touch. NULL where the kernel refuses.
static inline void *tieout_reserve(uint64_t bytes) {
  const uint64_t huge = (uint64_t)2 << 20;
  uint64_t whole = (bytes + huge - 1) & ~(huge - 1);
  void *mapped = mmap(NULL, whole + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) { return NULL; }
  uintptr_t start = ((uintptr_t)mapped + huge - 1) & ~(uintptr_t)(huge - 1);
  uint64_t before = start - (uintptr_t)mapped;
  if (before) { munmap(mapped, before); }
  if (huge - before) { munmap((void *)(start + whole), huge - before); }
  return (void *)start;
}

static inline void tieout_release(void *address, uint64_t bytes) {
  const uint64_t huge = (uint64_t)2 << 20;
  if (address) { munmap(address, (bytes + huge - 1) & ~(huge - 1)); }
}

/// `realloc` for the stores of the matcher: large blocks are remapped by the kernel instead of copied.
void *tieout_realloc(void *address, uint64_t bytes);
void tieout_free(void *address);

/// Tells the allocator to keep the buffers of fetches for the next ones. Once in a process.
void tieout_keep_memory(void);
