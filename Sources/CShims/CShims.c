#include "CShims.h"
#ifdef __linux__
#include <malloc.h>
#endif
#include <stdlib.h>

void *tieout_realloc(void *address, uint64_t bytes) { return realloc(address, (size_t)bytes); }
void tieout_free(void *address) { free(address); }

void tieout_keep_memory(void) {
#ifdef __GLIBC__
  // A fetch of a megabyte is above the allocator's threshold for a mapping of its own, which the kernel fills with
  // zeros page by page, and takes back when the last message of the fetch is done: a tenth of what reading costs.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}
