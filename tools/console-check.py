"""What `tools/console-check` runs: `seed` puts breaks and aggregates on the topics, `walk` drives the browser."""

import json
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from confluent_kafka import Producer

HOSTILE = "<img src=x onerror=\"window.hurt=1\">'\"><script>window.hurt=1</script>"
TYPES = ["AMOUNT_MISMATCH", "MISSING_IN_LEDGER", "MISSING_ORDER", "TAX_MISMATCH", "CUTOFF", "PARTIAL"]
FIRST_PAINT_MS = 200
LIVE_MS = 1000


def stamp(days_ago: float = 0) -> str:
    at = datetime.now(timezone.utc) - timedelta(days=days_ago)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def broken(order: str, number: int, **other) -> tuple[str, dict]:
    kind = TYPES[number % len(TYPES)]
    posted, delta = f"{1000 - number * 7}.50", f"-{number * 7 + 12}.40"
    made = {
        "id": f"{order}:{kind}:receivable", "order": order, "type": kind, "role": "receivable",
        "currency": "EUR" if number % 3 else "NOK", "expected": f"{1012 + number * 0}.90", "posted": posted, "delta": delta,
        "affected": delta, "state": "open", "provisional": number % 5 == 0, "revision": 1, "hints": ["SIGN_FLIP"],
        "severity": ["low", "medium", "high", "critical"][number % 4], "customer": f"C{number % 17}",
        "dimensions": {"country": ["NO", "SE", "DE"][number % 3], "channel": "web"}, "first_event_time": stamp(number * 0.9),
        "deadline": stamp(number * 0.9 - 8), "as_of": stamp(0.1), "reason": f"posted differs from expected by {delta}",
        "evidence": {
            "roles": [
                {"role": "receivable", "currency": "EUR", "expected": "1012.90", "posted": posted, "delta": delta},
                {"role": "revenue", "currency": "EUR", "expected": "-810.32", "posted": "0.00", "delta": "810.32"},
                {"role": "tax", "currency": "EUR", "expected": "-202.58", "posted": "-202.58", "delta": "0.00"},
            ],
            "events": [f"E-{order[:40]}-1"], "journals": [f"JE-{number}"],
        },
    }
    made.update(other)
    return made["id"], made


def send(bootstrap: str, records: list[tuple]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    failed = []
    for topic, key, value, *ago_s in records:
        at_ms = int((time.time() - (ago_s[0] if ago_s else 0)) * 1000)
        producer.produce(topic, json.dumps(value), key, timestamp=at_ms,
                         on_delivery=lambda error, _: error and failed.append(error))
    if producer.flush(30) or failed:
        sys.exit(f"console-check: records were not taken: {failed[:1]}")


def seed(bootstrap: str) -> None:
    records = [("shop.breaks", *broken(f"SO-{1000 + n}", n)) for n in range(1, 131)]
    records.append(("shop.breaks", *broken(HOSTILE, 7, customer=HOSTILE, reason=HOSTILE, dimensions={"country": "NO", "channel": HOSTILE})))
    for order in ("SO-1002", "SO-QUIET"):
        records.append(("shop.orders", order, {"id": order, "event_id": f"E-{order}-1", "event": "invoiced", "at": stamp(2), "customer": "C2",
                                               "currency": "EUR", "net": "810.32", "tax": "202.58", "gross": "1012.90", "country": "DE", "note": HOSTILE}))
        records.append(("shop.ledger", order, {"order": order, "line_id": "1", "journal": "JE-2", "role": "receivable", "currency": "EUR",
                                               "at": stamp(1), "posting_date": stamp(1)[:10], "amount": "986.50"}))
    cell = f"open_breaks:{TYPES[0]}"
    for n in range(30):
        records.append(("shop.totals", cell, {"cell": cell, "value": 10 + n * 7 % 13, "tasks": 2}, (30 - n) * 1200))
    for n, name in enumerate(TYPES):
        records.append(("shop.totals", f"open_breaks:{name}", {"cell": f"open_breaks:{name}", "value": 22 - n, "tasks": 2}))
    for name, matched, month in (("orders", 48_310, "202601"), ("orders", 50_000, "202602"), ("ledger", 97_744, "202602")):
        records.append(("shop.quality", f"{name}|{month}", {
            "source": name, "period": month, "records": 50_000 if name == "orders" else 100_000, "matched": matched, "late": 12, "duplicates": 3, "dead_letters": 0,
            "freshness_lag_ms": 4_200, "amounts": [{
                "currency": "EUR", "total": "18234567.10", "matched": "17990001.00", "match_rate": "0.9866",
                "open_breaks": "0.00", "control_difference": "0.00"}]}))
    records.append(("shop.quality", "(all)|(all)", {
        "source": "(all)", "period": "(all)", "records": 0, "matched": 0, "late": 0, "duplicates": 0, "dead_letters": 0,
        "freshness_lag_ms": None, "orders_closed": 98_000, "orders_tied_out": 97_020, "tied_out_rate": "0.990000",
        "amounts": [{"currency": "EUR", "total": "36104110.00", "matched": "35671300.00", "match_rate": "0.9880",
                     "open_breaks": "432810.00", "control_difference": "0.00"}]}))
    for name, closed, open_value in (("orders", 97_500, "432810.00"), ("ledger", 97_400, "401200.00")):
        records.append(("shop.quality", f"{name}|(all)", {
            "source": name, "period": "(all)", "records": 0, "matched": 0, "late": 0, "duplicates": 0, "dead_letters": 0,
            "freshness_lag_ms": 4_200, "orders_closed": closed, "orders_tied_out": closed - 900, "open_break_count": 912,
            "amounts": [{"currency": "EUR", "total": "36104110.00", "matched": "35671300.00", "open_breaks": open_value,
                         "weighted_break_age_ms": 172_800_000, "control_difference": "0.00"}]}))
    for month in range(1, 13):
        records.append(("shop.revenue", f"NO|EUR|{month}", {
            "dimensions": {"country": "NO"}, "currency": "EUR", "period": f"2026-{month:02d}",
            "by_posting_date": {"recognised_revenue": f"{1_000_000 + month * 83_417}.25"}}))
    weeks = [{"week": n, "from": (datetime.now(timezone.utc) + timedelta(days=7 * n)).strftime("%Y-%m-%d"),
              "expected": f"{400_000 - n * 17_000}.10", "by_due_date": f"{350_000 - n * 9_000}.00"} for n in range(13)]
    records.append(("shop.cashflow", "EUR", {"dimensions": {}, "currency": "EUR", "weeks": weeks, "later": "0.00"}))
    send(bootstrap, records)


def check(holds: object, what: str) -> None:
    if not holds:
        sys.exit(f"console-check: FAILED: {what}")
    print(f"ok  {what}")


CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const ground = (node) => { for (let at = node; at; at = at.parentElement) { const c = parse(getComputedStyle(at).backgroundColor);
    if (c.length === 3 || c[3] > 0.5) return c; } return [255, 255, 255]; };
  const bad = [];
  for (const node of document.querySelectorAll('body *')) {
    if (![...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()) || !node.checkVisibility() || node.matches('.skip, button:disabled')) continue;
    const isDrawn = node instanceof SVGElement;
    const a = light(parse(getComputedStyle(node)[isDrawn ? 'fill' : 'color'])), b = light(ground(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(node.tagName + ' ' + node.textContent.slice(0, 30) + ' ' + ratio.toFixed(2));
  }
  return bad; }"""

UNNAMED = """() => [...document.querySelectorAll('input, select, textarea, button, a[href]')].filter((n) => n.checkVisibility()
  && !(n.getAttribute('aria-label') || (n.labels && n.labels.length) || n.textContent.trim())).map((n) => n.outerHTML.slice(0, 80))"""


def walk(bootstrap: str, url: str, chromium: str, shots: str) -> None:
    from urllib.parse import quote

    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    hostile_id = broken(HOSTILE, 7)[0]
    views = {
        "overview": "#/overview", "breaks": "#/breaks", "filtered": "#/breaks?severity=high,critical&sort=-age",
        "detail": "#/break/SO-1002%3AMISSING_ORDER%3Areceivable", "hostile": "#/break/" + quote(hostile_id, safe=""),
        "orders": "#/orders", "order": "#/order/SO-1002", "quiet": "#/order/SO-QUIET", "sources": "#/sources", "audit": "#/audit",
    }
    if shots:
        Path(shots).mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def opened(width: int, scheme: str, token: str = "console-check-admin"):
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(10_000)
            page.on("console", lambda m: problems.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: problems.append(f"script: {error}"))
            page.goto(url + "/")
            page.fill("input[name=token]", token)
            page.click("button[type=submit]")
            page.wait_for_selector("#open-count")
            return page

        def go(page, fragment: str) -> None:
            page.evaluate("(to) => { document.querySelector('#main').replaceChildren(); if (location.hash === to) dispatchEvent(new Event('hashchange')); else location.hash = to; }", fragment)
            page.wait_for_function("() => document.querySelector('#main').children.length > 0")
            page.wait_for_timeout(60)

        for width in (1280, 390):
            for scheme in ("light", "dark"):
                page = opened(width, scheme)
                for name, fragment in views.items():
                    go(page, fragment)
                    where = f"{name} at {width} px, {scheme}"
                    if shots:
                        page.screenshot(path=f"{shots}/{name}-{width}-{scheme}.png", full_page=True)
                    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    wide = max(wide, page.evaluate("Math.max(0, ...[...document.querySelectorAll('.panel')].map((n) => n.scrollWidth - n.clientWidth))"))
                    low, unnamed = page.evaluate(CONTRAST), page.evaluate(UNNAMED)
                    check(page.locator(".error:not(:empty)").count() == 0 and wide <= 0 and not low and not unnamed,
                          f"{where}: no error, nothing beside the page, contrast, names {wide if wide > 0 else ''} {low[:3]} {unnamed[:2]}")
                page.context.close()

        page = opened(1280, "light")
        check(page.locator("polyline.line").count() == 1 and page.locator("rect.b").count() == 13, "the charts are drawn")
        go(page, "#/break/" + quote(hostile_id, safe=""))
        check(HOSTILE in page.locator("h1").inner_text() and page.evaluate("window.hurt === undefined")
              and page.locator("main img, main script").count() == 0, "a hostile key stays text")

        go(page, "#/order/SO-1002")
        page.wait_for_selector("code.record")
        check(page.locator("code.record").count() == 2 and "986.50" in page.locator("main").inner_text(), "an order with its event and its posting")
        go(page, "#/breaks?state=open")
        page.wait_for_selector("tbody tr")
        check(page.locator("tbody tr").count() == 50, "a page of 50 rows")
        page.click("text=Show more")
        page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 100")
        check(True, "the next page by its cursor")
        go(page, "#/sources")
        check("401200.00" in page.locator("main").inner_text().replace(",", "").replace("\u202f", "").replace(" ", ""), "how the orders of each source stand")
        go(page, "#/breaks?q=SO-1042")
        check(page.locator("tbody tr").count() == 1 and page.input_value("input[name=q]") == "SO-1042", "a search from the address")

        go(page, "#/breaks?state=open")
        page.wait_for_selector("tbody tr")
        for key in ("j", "x", "j", "x"):
            page.keyboard.press(key)
        check("2 selected" in page.locator(".bulk").inner_text(), "j and x select")
        ids = page.evaluate("[...document.querySelectorAll('tbody tr')].filter((r) => r.querySelector('input').checked).map((r) => r.dataset.id)")
        page.keyboard.press("?")
        check(page.locator("dialog[open]").count() == 1, "? shows the keys")
        if shots:
            page.screenshot(path=f"{shots}/keys.png")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        check(page.evaluate("document.activeElement.name") == "q", "/ goes to the search")
        page.keyboard.press("Escape")
        page.click(".bulk [data-kind=explain]")
        page.select_option("dialog select", "timing")
        page.fill("dialog textarea", "bulk check")
        if shots:
            page.screenshot(path=f"{shots}/bulk.png")
        page.click("dialog button[type=submit]")
        page.wait_for_function("() => document.querySelector('#toast').textContent.includes('2 done')")
        states = page.evaluate("async (ids) => Promise.all(ids.map(async (id) => (await (await fetch('/v1/breaks/' + encodeURIComponent(id))).json()).break.state))", ids)
        check(states == ["explained", "explained"], f"a bulk action on two breaks: {states}")
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        page.wait_for_selector("ol.time")
        check("#/break/" in page.url, "Enter opens a break")

        go(page, "#/breaks?q=SO-LIVE")
        page.wait_for_selector(".live.on")
        check(page.locator("tbody tr").count() == 0, "nothing is found before it is sent")
        key, value = broken("SO-LIVE-1", 3)
        page.evaluate("""() => { const seen = () => { if (document.querySelector('tbody tr')) window.seenAt = Date.now(); else requestAnimationFrame(seen); }; seen(); }""")
        began = time.time() * 1000
        send(bootstrap, [("shop.breaks", key, value)])
        page.wait_for_function("() => window.seenAt")
        took = page.evaluate("window.seenAt") - began
        check(took <= LIVE_MS, f"a new break shows in the list {took:.0f} ms after it was sent")
        value = {**value, "revision": 2, "severity": "critical", "posted": "1.00"}
        go(page, "#/break/" + quote(key, safe=""))
        check("Revision 2" not in page.locator("ol.time").inner_text(), "a new break has one revision")
        began = time.time() * 1000
        send(bootstrap, [("shop.breaks", key, value)])
        page.wait_for_function("() => document.querySelector('ol.time').textContent.includes('Revision 2')")
        took = time.time() * 1000 - began
        check(took <= LIVE_MS, f"its second revision shows in its own view after {took:.0f} ms")

        go(page, "#/break/" + quote(hostile_id, safe=""))
        page.click("[data-kind=comment]")
        page.fill("dialog textarea", HOSTILE)
        page.click("dialog button[type=submit]")
        page.wait_for_function("() => document.querySelector('ol.time').textContent.includes('ada: comment')")
        check(page.evaluate("window.hurt === undefined"), "a hostile comment stays text")

        large = "#/break/" + quote(broken("SO-1110", 110)[0], safe="")
        go(page, large)
        page.click("[data-kind=force_close]")
        page.click("dialog button[type=submit]")
        check(page.locator("dialog .error").inner_text() != "", "a decision without a reason is not sent")
        page.select_option("dialog select", "pricing")
        page.click("dialog button[type=submit]")
        page.wait_for_selector("text=Waits for a second person")
        check(page.locator("button:text-is('Approve')").is_disabled(), "whoever asked cannot approve")
        if shots:
            page.screenshot(path=f"{shots}/approval.png", full_page=True)
        second = opened(1280, "light", "console-check-second")
        go(second, large)
        second.click("button:text-is('Approve')")
        page.wait_for_function("() => document.querySelector('#main .row').textContent.includes('force closed')")
        check(True, "a second person approves, and the first one sees it live")
        second.context.close()

        page.click("#theme")
        check(page.evaluate("document.documentElement.dataset.theme") == "dark", "the theme can be switched")
        page.reload()
        page.wait_for_selector("ol.time")
        check(page.evaluate("document.documentElement.dataset.theme") == "dark", "and stays, as the session does, over a reload")

        paints = []
        for _ in range(5):
            context = browser.new_context()
            fresh = context.new_page()
            fresh.goto(url + "/")
            fresh.wait_for_selector("input[name=token]")
            fresh.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
            paints.append(fresh.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            context.close()
        median = sorted(paints)[2]
        check(median <= FIRST_PAINT_MS, f"first paint of a cold cache: {median:.0f} ms (median of {[round(p) for p in paints]})")

        page.click("#leave")
        page.wait_for_selector("input[name=token]")
        check(page.evaluate("fetch('/v1/breaks').then((r) => r.status)") == 401, "signing out ends the session")
        problems[:] = [text for text in problems if "401" not in text]

        page = opened(1280, "light", "console-check-scoped")
        for fragment in ("#/breaks", "#/sources", "#/orders", "#/audit", "#/overview"):
            go(page, fragment)
        check(page.locator(".error:not(:empty)").count() == 0 and "SE" not in page.content().split("<main")[1].split("</main")[0].split(), "a scoped viewer sees what is shown to them, without an error")
        go(page, "#/breaks")
        check(page.locator("#nav a").count() == 4, "no audit log for a viewer")
        check(not problems, f"no error in the browser's console, no violation of the policy: {problems[:3]}")
        page.evaluate("document.querySelector('main').setAttribute('style', 'color: red')")
        page.wait_for_timeout(100)
        check(any("Content Security Policy" in text for text in problems), "a violation would have been seen")
        browser.close()


if __name__ == "__main__":
    if sys.argv[1] == "seed":
        seed(sys.argv[2])
    else:
        walk(*sys.argv[2:6])
