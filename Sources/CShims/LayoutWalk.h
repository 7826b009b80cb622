// The walk, compiled once for each set of vector instructions: `WALK` names the function, `WALK_TARGET` the
// instructions, `EQUAL32`, `STOPS32` and `DIGITS32` look at 32 bytes and give a bit for each.
//
// Speed comes from guesses that the processor can run ahead of: a value ends where it ended last time, so the next
// literal's place is known before the value is looked at. What is looked at is checked all the same; a wrong guess
// costs a mispredicted branch.

WALK_TARGET static uint32_t WALK(
  tieout_step *steps, tieout_value *values, tieout_place *place, const uint8_t *end) {
  const uint8_t *at = place->cursor;
  uint32_t number = place->step;
  for (;;) {
    tieout_step *step = steps + number;
    if (UNLIKELY(at > end)) { return TIEOUT_WALK_MISS; }
    if (UNLIKELY((EQUAL32(at, step->literal) & step->mask) != step->mask)) {
    another:
      if (step->sibling == 0) { return TIEOUT_WALK_MISS; }
      number = step->sibling;
      continue;
    }
    const uint8_t *value = at + step->count;
    if (UNLIKELY(step->kind > TIEOUT_STEP_SPARE)) {
      if (step->kind == TIEOUT_STEP_END) {
        if (value == end) { return TIEOUT_WALK_DONE; }
        goto another;
      }
      if (step->kind == TIEOUT_STEP_COMPOSITE) {
        values[step->slot] = (tieout_value){value - 1, 0, TIEOUT_FORM_COMPOSITE};
      }
      at = value;
      number += 1;
      continue;
    }
    uint8_t first = *value;
    uint32_t count;
    uint32_t quotes;
    if (LIKELY(first == '"')) {
      value += 1;
      uint32_t stops = STOPS32(value);
      count = 0;
      while (UNLIKELY(stops == 0)) {
        count += 32;
        if (value + count > end) { return TIEOUT_WALK_MISS; }
        stops = STOPS32(value + count);
      }
      count += (uint32_t)__builtin_ctz(stops);
      if (UNLIKELY(value[count] != '"')) {
        place->cursor = value - 1;
        goto help;
      }
      values[step->slot] = (tieout_value){value, count, TIEOUT_FORM_STRING};
      quotes = 1;
    } else if (first == '-' || (uint8_t)(first - '0') <= 9) {
      const uint8_t *whole = value + (first == '-');
      uint32_t digits = DIGITS32(whole);
      // A run of 31 digits and more takes the whole scanner.
      uint32_t run = (uint32_t)__builtin_ctz(~digits | 0x80000000u);
      if (UNLIKELY(run == 0 || (run > 1 && *whole == '0'))) { return TIEOUT_WALK_MISS; }
      if (whole[run] == '.' && run < 31) {
        uint32_t fraction = (uint32_t)__builtin_ctz(~(digits >> (run + 1)));
        if (UNLIKELY(fraction == 0)) { return TIEOUT_WALK_MISS; }
        run += 1 + fraction;
      }
      if (UNLIKELY(run >= 31 || (whole[run] | 0x20) == 'e')) {
        place->cursor = value;
        goto help;
      }
      count = run + (first == '-');
      values[step->slot] = (tieout_value){value, count, TIEOUT_FORM_NUMBER};
      quotes = 0;
    } else {
      uint32_t word;
      memcpy(&word, value, 4);
      if (word == WORD('n', 'u', 'l', 'l')) {
        count = 4;
        values[step->slot] = (tieout_value){value, 4, TIEOUT_FORM_NULL};
      } else if (word == WORD('t', 'r', 'u', 'e')) {
        count = 4;
        values[step->slot] = (tieout_value){value, 4, TIEOUT_FORM_BOOL};
      } else if (word == WORD('f', 'a', 'l', 's') && value[4] == 'e') {
        count = 5;
        values[step->slot] = (tieout_value){value, 5, TIEOUT_FORM_BOOL};
      } else {
        if (step->kind == TIEOUT_STEP_VALUE || (first != '{' && first != '[')) { goto another; }
        place->cursor = value;
        goto help;
      }
      quotes = 0;
    }
    uint32_t expected = step->expected;
    if (LIKELY(count == expected)) {
      // Opaque, so that the compiler does not fold the guess into what it was checked against.
      __asm__("" : "+r"(expected));
      at = value + expected + quotes;
    } else {
      step->expected = count;
      at = value + count + quotes;
    }
    number += 1;
    continue;
  help:
    place->step = number;
    return TIEOUT_WALK_HELP;
  }
}
