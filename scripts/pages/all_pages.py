# SPDX-License-Identifier: GPL-2.0-or-later
"""Which documents are generated, and by whom: path -> function of (root, build folder) that returns the text."""
import os

import concurrency_page
import configuration_page
import json_schema
import log_events_page
import manual_pages
import metrics_page

PAGES = {
    "docs/configuration.md": configuration_page.write,
    "docs/concurrency.md": concurrency_page.write,
    "docs/log-events.md": log_events_page.write,
    "docs/metrics.md": metrics_page.write,
    "docs/man/event-service.8": manual_pages.program_page("event-service"),
    "docs/man/event-gateway.8": manual_pages.program_page("event-gateway"),
    "docs/man/event-bench.1": manual_pages.bench_page,
    "docs/man/event-service.yaml.5": manual_pages.configuration_page,
    "share/event-service.schema.json": json_schema.writer("event-service"),
    "share/event-gateway.schema.json": json_schema.writer("event-gateway"),
}


def text_of(path, root, build):
    return PAGES[path](root, os.path.join(root, build))


def is_stale(path, root, build):
    full = os.path.join(root, path)
    if not os.path.exists(full):
        return True
    with open(full, encoding="utf-8") as file:
        return file.read() != text_of(path, root, build)


def write(path, root, build):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as file:
        file.write(text_of(path, root, build))
