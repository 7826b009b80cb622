#include "CShims.h"
#include <stdlib.h>

void *tieout_realloc(void *address, uint64_t bytes) { return realloc(address, (size_t)bytes); }
void tieout_free(void *address) { free(address); }
