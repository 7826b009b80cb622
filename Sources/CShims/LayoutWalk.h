// The walk, compiled once for each set of vector instructions: `WALK` names the function, `WALK_TARGET` the
// instructions, `EQUAL32`, `STOPS32` and `DIGITS32` look at 32 bytes and give a bit for each, `INDEX` finds the quotes
// of a record.
//
// Going from string to string is a chain: where a value ends decides where the next literal is looked for, and each
// link waits for a load, a compare and a count of zeros. With an index of the quotes, made beforehand in a loop that
// waits for nothing, the places of all literals are known at once. All that is looked at is checked all the same.

WALK_TARGET static uint32_t WALK(tieout_step *steps, tieout_value *values, tieout_place *place) {
  const uint8_t *const start = place->start;
  const uint8_t *const end = place->end;
  const uint8_t *at = place->cursor;
  uint32_t number = place->step;
  uint32_t mark = 0;
  if (number == 0) {
    INDEX(place);
  } else {
    // Behind a value that took help.
    while (mark < place->mark_count && place->marks[mark] < at - start) { mark += 1; }
  }
  const uint32_t mark_count = place->mark_count;
  const uint32_t is_odd = place->is_odd;
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
      mark += step->quotes;
      number += 1;
      continue;
    }
    uint8_t first = *value;
    if (LIKELY(first == '"')) {
      value += 1;
      uint32_t count = 0;
      if (LIKELY(mark_count != 0)) {
        mark += step->quotes + 2;
        if (UNLIKELY(mark > mark_count)) { return TIEOUT_WALK_MISS; }
        at = start + place->marks[mark - 1];
        count = (uint32_t)(at - value);
        if (UNLIKELY(is_odd)) {
          uint32_t seen = 0;
          uint32_t stops;
          while ((stops = STOPS32(value + seen)) == 0 && seen + 32 <= count) { seen += 32; }
          if (stops == 0 || seen + (uint32_t)__builtin_ctz(stops) != count) {
            place->cursor = value - 1;
            goto help;
          }
        }
      } else {
        uint32_t stops = STOPS32(value);
        while (UNLIKELY(stops == 0)) {
          count += 32;
          if (value + count > end) { return TIEOUT_WALK_MISS; }
          stops = STOPS32(value + count);
        }
        count += (uint32_t)__builtin_ctz(stops);
        at = value + count;
        if (UNLIKELY(*at != '"')) {
          place->cursor = value - 1;
          goto help;
        }
      }
      values[step->slot] = (tieout_value){value, count, TIEOUT_FORM_STRING};
      at += 1;
      number += 1;
      continue;
    }
    if (first == '-' || (uint8_t)(first - '0') <= 9) {
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
      at = whole + run;
      values[step->slot] = (tieout_value){value, (uint32_t)(at - value), TIEOUT_FORM_NUMBER};
    } else {
      uint32_t word;
      memcpy(&word, value, 4);
      if (word == WORD('n', 'u', 'l', 'l')) {
        values[step->slot] = (tieout_value){value, 4, TIEOUT_FORM_NULL};
        at = value + 4;
      } else if (word == WORD('t', 'r', 'u', 'e')) {
        values[step->slot] = (tieout_value){value, 4, TIEOUT_FORM_BOOL};
        at = value + 4;
      } else if (word == WORD('f', 'a', 'l', 's') && value[4] == 'e') {
        values[step->slot] = (tieout_value){value, 5, TIEOUT_FORM_BOOL};
        at = value + 5;
      } else {
        if (step->kind == TIEOUT_STEP_VALUE || (first != '{' && first != '[')) { goto another; }
        place->cursor = value;
        goto help;
      }
    }
    mark += step->quotes;
    number += 1;
    continue;
  help:
    place->step = number;
    return TIEOUT_WALK_HELP;
  }
}
