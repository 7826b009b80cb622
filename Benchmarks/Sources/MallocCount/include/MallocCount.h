#pragma once
/// Allocations of the calling thread since it began: malloc, calloc, realloc and the aligned ones.
unsigned long tieout_thread_allocations(void);
