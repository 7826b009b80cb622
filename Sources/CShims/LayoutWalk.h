// The walk, compiled once for each set of vector instructions: `WALK` names the function, `WALK_TARGET` the
// instructions, `EQUAL32`, `STOPS32` and `DIGITS32` look at 32 bytes and give a bit for each, `INDEX` finds the quotes
// of a record.
//
// Going from string to string is a chain: where a value ends decides where the next literal is looked for, and each
// link waits for a load, a compare and a count of zeros. With an index of the quotes, made beforehand in a loop that
// waits for nothing, the places of all literals are known at once. All that is looked at is checked all the same: a
// literal by comparing it, a value by there being no quote in it (the index) and nothing else that may not stand in a
// string (the record is not odd, or the value is looked through).

WALK_TARGET static uint32_t WALK(tieout_step *steps, tieout_value *values, tieout_place *place) {
  const uint8_t *const start = place->start;
  const uint8_t *const end = place->end;
  const uint8_t *at = place->cursor;
  tieout_step *step = steps + place->step;
  if (place->step == 0) {
    INDEX(place);
    place->mark = 0;
  } else {
    // Behind a value that took help.
    while (place->mark < place->mark_count && place->marks[place->mark] < at - start) { place->mark += 1; }
  }
  // Behind the quotes that were passed, and behind the last.
  const uint16_t *mark = place->marks + place->mark;
  const uint16_t *const marks_end = place->marks + place->mark_count;
  const uint32_t is_plain = place->mark_count != 0 && place->is_odd == 0;
  for (;;) {
    if (UNLIKELY((EQUAL32(at, step->literal) & step->mask) != step->mask)) {
    another:
      if (step->sibling == 0) { return TIEOUT_WALK_MISS; }
      step = steps + step->sibling;
      continue;
    }
    const uint8_t *value = at + step->count;
    uint32_t first = *value;
    if (LIKELY(first == step->opening)) {
      value += 1;
      if (LIKELY(is_plain)) {
        mark += step->quotes + 2;
        if (UNLIKELY(mark > marks_end)) { return TIEOUT_WALK_MISS; }
        at = start + mark[-1];
      } else if (place->mark_count != 0) {
        mark += step->quotes + 2;
        if (UNLIKELY(mark > marks_end)) { return TIEOUT_WALK_MISS; }
        at = start + mark[-1];
        const uint8_t *stop = value;
        uint32_t stops;
        while ((stops = STOPS32(stop)) == 0 && stop + 32 <= at) { stop += 32; }
        if (stops == 0 || stop + __builtin_ctz(stops) != at) {
          at = value - 1;
          goto help;
        }
      } else {
        at = value;
        uint32_t stops;
        while (UNLIKELY((stops = STOPS32(at)) == 0)) {
          at += 32;
          if (at > end) { return TIEOUT_WALK_MISS; }
        }
        at += __builtin_ctz(stops);
        if (UNLIKELY(*at != '"')) {
          at = value - 1;
          goto help;
        }
        if (UNLIKELY(at >= end)) { return TIEOUT_WALK_MISS; }
      }
      *tieout_slot(values, step) = (tieout_value){value, (uint32_t)(at - value), TIEOUT_FORM_STRING};
      at += 1;
      step += 1;
      continue;
    }
    if (UNLIKELY(step->kind > TIEOUT_STEP_SPARE)) {
      if (step->kind == TIEOUT_STEP_END) {
        if (value == end) { return TIEOUT_WALK_DONE; }
        goto another;
      }
      if (step->kind == TIEOUT_STEP_COMPOSITE) {
        *tieout_slot(values, step) = (tieout_value){value - 1, 0, TIEOUT_FORM_COMPOSITE};
      }
      at = value;
      mark += step->quotes;
      step += 1;
      if (UNLIKELY(at > end)) { return TIEOUT_WALK_MISS; }
      continue;
    }
    if (first == '-' || first - '0' <= 9) {
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
      at = value;
      if (UNLIKELY(run >= 31 || (whole[run] | 0x20) == 'e')) { goto help; }
      at = whole + run;
      *tieout_slot(values, step) = (tieout_value){value, (uint32_t)(at - value), TIEOUT_FORM_NUMBER};
    } else {
      uint32_t word;
      memcpy(&word, value, 4);
      uint32_t form = TIEOUT_FORM_BOOL;
      uint32_t count = 4;
      if (word == WORD('n', 'u', 'l', 'l')) {
        form = TIEOUT_FORM_NULL;
      } else if (word == WORD('f', 'a', 'l', 's') && value[4] == 'e') {
        count = 5;
      } else if (word != WORD('t', 'r', 'u', 'e')) {
        if (step->kind == TIEOUT_STEP_VALUE || (first != '{' && first != '[')) { goto another; }
        at = value;
        goto help;
      }
      *tieout_slot(values, step) = (tieout_value){value, count, form};
      at = value + count;
    }
    mark += step->quotes;
    step += 1;
    if (UNLIKELY(at > end)) { return TIEOUT_WALK_MISS; }
    continue;
  help:
    place->cursor = at;
    place->step = (uint32_t)(step - steps);
    place->mark = mark > marks_end ? place->mark_count : (uint32_t)(mark - place->marks);
    return TIEOUT_WALK_HELP;
  }
}
