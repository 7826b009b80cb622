#!/usr/bin/env python3
"""Prints the 13-week cash forecast that `tieout flows` keeps in <prefix>.cashflow.

    cash_forecast.py --bootstrap 127.0.0.1:9092 --topic receivables.cashflow
    cash_forecast.py --topic shop.cashflow --currency EUR --dimension country=Germany --past

Needs confluent-kafka (Debian: python3-confluent-kafka); everything else is the standard library. It reads the topic to
its end, keeps the highest revision under each key, and prints one table a series. Amounts are decimal text in the topic
and stay decimals here: money is never a floating-point number.

Exit code 0: printed; 1: the topic holds nothing that fits; 2: it could not be read.
"""

import argparse
import json
import sys
from decimal import Decimal

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition


def read_newest(bootstrap, topic, properties, timeout_s):
    """The newest message under each key, of committed records alone."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            # Never committed to: the topic is compacted, and reading it from the beginning is all the state there is.
            "group.id": "cash-forecast-example",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            **properties,
        }
    )
    try:
        metadata = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        if not metadata.partitions:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION, f"{topic} has no partitions"))
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in metadata.partitions])
        ahead = set(metadata.partitions)
        newest = {}
        while ahead:
            record = consumer.poll(timeout_s)
            if record is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"nothing came from {topic} partitions {ahead}"))
            if record.error() is not None:
                if record.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(record.error())
                ahead.discard(record.partition())
                continue
            key = record.key()
            if record.value() is None:
                newest.pop(key, None)
                continue
            message = json.loads(record.value())
            if key not in newest or message["revision"] >= newest[key]["revision"]:
                newest[key] = message
        return newest
    finally:
        consumer.close()


def table(head, rows):
    widths = [max(len(row[at]) for row in [head] + rows) for at in range(len(head))]
    for row in [head] + rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip())


def percent(text):
    """A ratio of the topic as percent, n/a where there is none."""
    return "n/a" if text is None else f"{Decimal(text) * 100:.1f} %"


def print_forecast(message, shows_past):
    series = [f"{name} {value or '(none)'}" for name, value in message["dimensions"].items()]
    currency = message["currency"] + (" as base currency" if message["view"] == "base" else "")
    print(", ".join([f"Cash in {currency}"] + series))
    print(
        f"as of the end of {message['as_of_date']}, {message['status']}, revision {message['revision']}; "
        f"{percent(message['tied_out'])} of what is open ties out"
    )
    completeness = message["completeness"]
    if not completeness["complete"]:
        print(
            f"INCOMPLETE: {completeness['unreadable_records']} records could not be read, the beginning of "
            f"{completeness['trimmed_partitions']} partitions is gone, {completeness.get('unvalued_items', 0)} items "
            "have no rate"
        )
    # Older messages have no backlog, and others none that is looked at: a field may come that a reader does not know.
    backlog = message.get("backlog", {"open": None})
    has_backlog = backlog["open"] is not None
    if has_backlog:
        print(f"{backlog['open']} in {backlog['orders']} orders is still to be billed")
        if backlog["unvalued_orders"]:
            print(f"{backlog['unvalued_orders']} orders do not say what is to be billed")
    print()
    total = Decimal(0)
    rows = []
    for week in message["weeks"]:
        total += Decimal(week["expected"])
        row = [str(week["week"]), week["from"], week["to"], week["expected"], f"{total}", week["by_due_date"]]
        if has_backlog:
            row += [week["backlog"], f"{Decimal(week['expected']) + Decimal(week['backlog'])}"]
        rows.append(row)
    later = ["", "later", "", message["later"], f"{total + Decimal(message['later'])}", ""]
    disputed = ["", "in dispute", "", message["disputed"], message["open"], ""]
    head = ["week", "from", "to", "expected", "in all", "by due date"]
    if has_backlog:
        head += ["of backlog", "with backlog"]
        later += [backlog["later"], f"{Decimal(message['later']) + Decimal(backlog['later'])}"]
        disputed += ["", ""]
    table(head, rows + [later, disputed])
    backtest = message["backtest"]
    print()
    for name, what in (("expected", "learned"), ("by_due_date", "by due date")):
        error = backtest[name]
        print(f"backtest {what}: MAPE {percent(error['mape'])}, bias {percent(error['bias'])}, {error['weeks']} weeks")
    if shows_past:
        print()
        table(
            ["week", "from", "to", "expected", "actual", "received"],
            [
                [str(week["week"]), week["from"], week["to"], week["expected"], week["actual"], week["received"]]
                for week in message["past_weeks"]
            ],
        )
    print()


def pair(text):
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", default="127.0.0.1:9092", help="bootstrap servers")
    parser.add_argument("--topic", default="receivables.cashflow", help="the topic")
    parser.add_argument("--currency", help="this currency alone (ISO 4217)")
    parser.add_argument(
        "--view", default="transaction", choices=["transaction", "base"], help="currencies as they are, or all converted"
    )
    parser.add_argument("--dimension", type=pair, action="append", default=[], metavar="NAME=VALUE", help="these alone")
    parser.add_argument("--past", action="store_true", help="the 13 weeks before as well")
    parser.add_argument(
        "--property", type=pair, action="append", default=[], metavar="NAME=VALUE", help="librdkafka property"
    )
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="longest wait for the cluster")
    arguments = parser.parse_args()
    try:
        newest = read_newest(arguments.bootstrap, arguments.topic, dict(arguments.property), arguments.timeout)
    except KafkaException as error:
        print(f"cash_forecast: {arguments.topic} at {arguments.bootstrap}: {error.args[0]}", file=sys.stderr)
        return 2
    wanted = [
        newest[key]
        for key in sorted(newest)
        if newest[key]["view"] == arguments.view
        and arguments.currency in (None, newest[key]["currency"])
        and all(newest[key]["dimensions"].get(name) == value for name, value in arguments.dimension)
    ]
    if not wanted:
        print(f"cash_forecast: {arguments.topic} holds nothing that fits", file=sys.stderr)
        return 1
    for message in wanted:
        print_forecast(message, arguments.past)
    return 0


if __name__ == "__main__":
    sys.exit(main())
