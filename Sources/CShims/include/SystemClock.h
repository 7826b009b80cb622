#pragma once

#include <string.h>
#include <sys/timex.h>

// Whether the kernel's clock is being kept right by somebody: 1 yes, 0 no, -1 where the kernel does not say.
// `error_us` receives the largest error that it reckons with, in microseconds.
static inline int tieout_clock_is_synchronised(long *error_us) {
  struct timex state;
  memset(&state, 0, sizeof state);
  int result = adjtimex(&state);
  if (result < 0) return -1;
  *error_us = state.maxerror;
  return result != TIME_ERROR && !(state.status & STA_UNSYNC);
}
