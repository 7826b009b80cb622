#include "CAllocations.h"
#include <stddef.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif

// The test executable's own `malloc` and its relatives: they count and pass on to the C library's. Sanitisers bring
// their own.
#if defined(__GLIBC__) && !defined(HAS_SANITIZER)

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *address, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static __thread int64_t allocations __attribute__((tls_model("initial-exec")));

void *malloc(size_t bytes) {
  allocations += 1;
  return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
  allocations += 1;
  return __libc_calloc(count, bytes);
}

void *realloc(void *address, size_t bytes) {
  allocations += 1;
  return __libc_realloc(address, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  allocations += 1;
  return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **address, size_t alignment, size_t bytes) {
  allocations += 1;
  *address = __libc_memalign(alignment, bytes);
  return *address == NULL ? 12 : 0;
}

int64_t tieout_allocations(void) { return allocations; }

#else

int64_t tieout_allocations(void) { return -1; }

#endif
