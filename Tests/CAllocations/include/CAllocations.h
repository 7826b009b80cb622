#pragma once
#include <stdint.h>

/// How many blocks the calling thread has allocated since it started; −1 where that cannot be counted (the C library is
/// not glibc, or a sanitiser took its place).
int64_t tieout_allocations(void);
