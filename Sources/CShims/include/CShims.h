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

/// The tags of an index's line at once, of which sixteen bytes can be read: a bit for each of the first twelve that is
/// `tag`, whether there is an entry or not.
static inline uint32_t tieout_index_tags(const void *tags, uint8_t tag) {
#if defined(__SSE2__)
  __m128i all = _mm_loadu_si128((const __m128i *)tags);
  return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_set1_epi8((char)tag))) & 0xfff;
#else
  uint32_t bits = 0;
  for (int at = 0; at < 12; at++) bits |= (uint32_t)(((const uint8_t *)tags)[at] == tag) << at;
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
